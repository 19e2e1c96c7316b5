#!/usr/bin/env bash
# Preprocessing, one example per task and mode: ./run_vace_preprocess.sh [NAME ... | all | list]
# Written by scripts/make_examples.py from the task table. Networks: --backend embedded or neural (auto).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/examples.sh

example depth                                             vace preprocess --task depth --video assets/videos/test.mp4

# control: the whole clip is made anew, led by what is drawn in src_video
example plain                                             vace preprocess --task plain --video assets/videos/test.mp4
example gray                                              vace preprocess --task gray --video assets/videos/test.mp4
example depthv2                                           vace preprocess --task depthv2 --video assets/videos/test.mp4
example flow                                              vace preprocess --task flow --video assets/videos/test.mp4
example pose                                              vace preprocess --task pose --video assets/videos/person.mp4
example pose_body                                         vace preprocess --task pose_body --video assets/videos/person.mp4
example scribble                                          vace preprocess --task scribble --video assets/videos/test.mp4
example layout_bbox                                       vace preprocess --task layout_bbox --bbox '80,60,240,300 400,60,600,300' --size 640x352 --label cat
example layout_track_masktrack                            vace preprocess --task layout_track --mode masktrack --video assets/videos/test.mp4 --mask assets/masks/test.png --label rabbit
example layout_track_bboxtrack                            vace preprocess --task layout_track --mode bboxtrack --video assets/videos/test.mp4 --bbox 90,10,310,310
example layout_track_label                                vace preprocess --task layout_track --mode label --video assets/videos/person.mp4 --label person --maskaug_mode bbox
example layout_track_caption                              vace preprocess --task layout_track --mode caption --video assets/videos/person.mp4 --caption 'a woman in orange'

# extension: given frames or clips are kept, the rest is made
example frameref_firstframe                               vace preprocess --task frameref --mode firstframe --image assets/images/test.jpg
example frameref_lastframe                                vace preprocess --task frameref --mode lastframe --image assets/images/test.jpg --expand_num 40
example frameref_firstlastframe                           vace preprocess --task frameref --mode firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg
example clipref_firstclip                                 vace preprocess --task clipref --mode firstclip --video assets/videos/test.mp4 --clip_frames 17
example clipref_lastclip                                  vace preprocess --task clipref --mode lastclip --video assets/videos/test.mp4 --clip_frames 17
example clipref_firstlastclip                             vace preprocess --task clipref --mode firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --clip_frames 17
example firstframe                                        vace preprocess --task firstframe --image assets/images/test.jpg
example lastframe                                         vace preprocess --task lastframe --image assets/images/test.jpg
example firstlastframe                                    vace preprocess --task firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg
example firstclip                                         vace preprocess --task firstclip --video assets/videos/test.mp4 --clip_frames 17
example lastclip                                          vace preprocess --task lastclip --video assets/videos/test.mp4 --clip_frames 17
example firstlastclip                                     vace preprocess --task firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --clip_frames 17
example framerefext                                       vace preprocess --task framerefext --video assets/videos/test.mp4 --ref_num 3 --seed 7

# repainting: a region of the clip, or around it, is made anew
example inpainting_salient                                vace preprocess --task inpainting --mode salient --video assets/videos/test.mp4
example inpainting_mode_mask                              vace preprocess --task inpainting --mode mask --video assets/videos/test.mp4 --mask assets/masks/test.png
example inpainting_mode_bbox                              vace preprocess --task inpainting --mode bbox --video assets/videos/test.mp4 --bbox 100,60,260,220
example inpainting_salientmasktrack                       vace preprocess --task inpainting --mode salientmasktrack --video assets/videos/test.mp4
example inpainting_salientbboxtrack                       vace preprocess --task inpainting --mode salientbboxtrack --video assets/videos/test.mp4
example inpainting_maskpointtrack                         vace preprocess --task inpainting --mode maskpointtrack --video assets/videos/test.mp4 --mask assets/masks/test.png
example inpainting_maskbboxtrack                          vace preprocess --task inpainting --mode maskbboxtrack --video assets/videos/test.mp4 --mask assets/masks/dots.png
example inpainting_mode_masktrack                         vace preprocess --task inpainting --mode masktrack --video assets/videos/test.mp4 --mask assets/masks/test.png
example inpainting_mode_bboxtrack                         vace preprocess --task inpainting --mode bboxtrack --video assets/videos/test.mp4 --bbox 90,10,310,310
example inpainting_mode_label                             vace preprocess --task inpainting --mode label --video assets/videos/person.mp4 --label person
example inpainting_mode_caption                           vace preprocess --task inpainting --mode caption --video assets/videos/person.mp4 --caption 'a woman in orange'
example inpainting_mask_salient                           vace preprocess --task inpainting_mask --video assets/videos/test.mp4 --mode salient
example inpainting_mask_mask                              vace preprocess --task inpainting_mask --video assets/videos/test.mp4 --mask assets/masks/test.png --maskaug_mode hull_expand --maskaug_ratio 0.3
example inpainting_bbox                                   vace preprocess --task inpainting_bbox --video assets/videos/test.mp4 --bbox 100,60,260,220
example inpainting_masktrack_salientmasktrack             vace preprocess --task inpainting_masktrack --video assets/videos/test.mp4 --mode salientmasktrack
example inpainting_masktrack_salientbboxtrack             vace preprocess --task inpainting_masktrack --video assets/videos/test.mp4 --mode salientbboxtrack
example inpainting_masktrack_masktrack                    vace preprocess --task inpainting_masktrack --video assets/videos/test.mp4 --mask assets/masks/test.png
example inpainting_bboxtrack                              vace preprocess --task inpainting_bboxtrack --video assets/videos/test.mp4 --bbox 90,10,310,310
example inpainting_label                                  vace preprocess --task inpainting_label --video assets/videos/person.mp4 --label person
example inpainting_caption                                vace preprocess --task inpainting_caption --video assets/videos/person.mp4 --caption 'a woman in orange'
example outpainting                                       vace preprocess --task outpainting --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.25
example outpainting_inner                                 vace preprocess --task outpainting_inner --video assets/videos/test.mp4 --direction up,down --expand_ratio 0.2

# reference: pictures of what shall appear in the video
example image_plain                                       vace preprocess --task image_plain --image assets/images/test.jpg,assets/images/test2.jpg
example image_gray                                        vace preprocess --task image_gray --image assets/images/test.jpg
example image_salient                                     vace preprocess --task image_salient --image assets/images/test.jpg
example image_face                                        vace preprocess --task image_face --image assets/images/test.jpg
example image_reference_plain                             vace preprocess --task image_reference --mode plain --image assets/images/test.jpg
example image_reference_salient                           vace preprocess --task image_reference --mode salient --image assets/images/test.jpg
example image_reference_mask                              vace preprocess --task image_reference --mode mask --image assets/images/test.jpg --mask assets/masks/test2.png
example image_reference_bbox                              vace preprocess --task image_reference --mode bbox --image assets/images/test.jpg --bbox 130,20,400,420
example image_reference_salientmasktrack                  vace preprocess --task image_reference --mode salientmasktrack --image assets/images/test.jpg
example image_reference_salientbboxtrack                  vace preprocess --task image_reference --mode salientbboxtrack --image assets/images/test.jpg
example image_reference_maskpointtrack                    vace preprocess --task image_reference --mode maskpointtrack --image assets/images/test.jpg --mask assets/masks/test2.png
example image_reference_maskbboxtrack                     vace preprocess --task image_reference --mode maskbboxtrack --image assets/images/test.jpg --mask assets/masks/dots2.png
example image_reference_masktrack                         vace preprocess --task image_reference --mode masktrack --image assets/images/test.jpg --mask assets/masks/test2.png
example image_reference_bboxtrack                         vace preprocess --task image_reference --mode bboxtrack --image assets/images/test.jpg --bbox 20,0,510,512
example image_reference_label                             vace preprocess --task image_reference --mode label --image assets/images/test.jpg --label person
example image_reference_caption                           vace preprocess --task image_reference --mode caption --image assets/images/test.jpg --caption 'a woman in orange'
example image_inpainting_salient                          vace preprocess --task image_inpainting --mode salient --image assets/images/test.jpg
example image_inpainting_mask                             vace preprocess --task image_inpainting --mode mask --image assets/images/test.jpg --mask assets/masks/test2.png
example image_inpainting_bbox                             vace preprocess --task image_inpainting --mode bbox --image assets/images/test.jpg --bbox 130,20,400,420
example image_inpainting_salientmasktrack                 vace preprocess --task image_inpainting --mode salientmasktrack --image assets/images/test.jpg
example image_inpainting_salientbboxtrack                 vace preprocess --task image_inpainting --mode salientbboxtrack --image assets/images/test.jpg
example image_inpainting_maskpointtrack                   vace preprocess --task image_inpainting --mode maskpointtrack --image assets/images/test.jpg --mask assets/masks/test2.png
example image_inpainting_maskbboxtrack                    vace preprocess --task image_inpainting --mode maskbboxtrack --image assets/images/test.jpg --mask assets/masks/dots2.png
example image_inpainting_masktrack                        vace preprocess --task image_inpainting --mode masktrack --image assets/images/test.jpg --mask assets/masks/test2.png
example image_inpainting_bboxtrack                        vace preprocess --task image_inpainting --mode bboxtrack --image assets/images/test.jpg --bbox 20,0,510,512
example image_inpainting_label                            vace preprocess --task image_inpainting --mode label --image assets/images/test.jpg --label person
example image_inpainting_caption                          vace preprocess --task image_inpainting --mode caption --image assets/images/test.jpg --caption 'a woman in orange'
example image_depth                                       vace preprocess --task image_depth --image assets/images/test.jpg
example image_depthv2                                     vace preprocess --task image_depthv2 --image assets/images/test.jpg
example image_pose                                        vace preprocess --task image_pose --image assets/images/test.jpg
example image_scribble                                    vace preprocess --task image_scribble --image assets/images/test.jpg
example image_outpainting                                 vace preprocess --task image_outpainting --image assets/images/test.jpg --direction left,right

# composition: several of the above in one
example composition                                       vace preprocess --task firstclip --video assets/videos/test.mp4 --clip_frames 9 --expand_num 32 --pre_save_dir processed/examples/first
example composition                                       vace preprocess --task outpainting_inner --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.2 --pre_save_dir processed/examples/second
example composition                                       vace preprocess --task composition --src_video processed/examples/first/src_video-firstclip.mp4,processed/examples/second/src_video-outpainting_inner.mp4 --src_mask processed/examples/first/src_mask-firstclip.mp4,processed/examples/second/src_mask-outpainting_inner.mp4 --process_type firstclip,outpainting_inner
example move_anything                                     vace preprocess --task move_anything --image assets/images/test.jpg --bbox '150,30,380,300 20,30,250,300'
example reference_anything_plain                          vace preprocess --task reference_anything --mode plain --image assets/images/test.jpg
example reference_anything_salient                        vace preprocess --task reference_anything --mode salient --image assets/images/test.jpg
example reference_anything_mask                           vace preprocess --task reference_anything --mode mask --image assets/images/test.jpg --mask assets/masks/test2.png
example reference_anything_bbox                           vace preprocess --task reference_anything --mode bbox --image assets/images/test.jpg --bbox 130,20,400,420
example reference_anything_salientmasktrack               vace preprocess --task reference_anything --mode salientmasktrack --image assets/images/test.jpg
example reference_anything_salientbboxtrack               vace preprocess --task reference_anything --mode salientbboxtrack --image assets/images/test.jpg
example reference_anything_maskpointtrack                 vace preprocess --task reference_anything --mode maskpointtrack --image assets/images/test.jpg --mask assets/masks/test2.png
example reference_anything_maskbboxtrack                  vace preprocess --task reference_anything --mode maskbboxtrack --image assets/images/test.jpg --mask assets/masks/dots2.png
example reference_anything_masktrack                      vace preprocess --task reference_anything --mode masktrack --image assets/images/test.jpg --mask assets/masks/test2.png
example reference_anything_bboxtrack                      vace preprocess --task reference_anything --mode bboxtrack --image assets/images/test.jpg --bbox 20,0,510,512
example reference_anything_label                          vace preprocess --task reference_anything --mode label --image assets/images/test.jpg --label person
example reference_anything_caption                        vace preprocess --task reference_anything --mode caption --caption 'a woman in orange' --image assets/images/test.jpg,assets/images/test.jpg,assets/images/test.jpg
example animate_anything_plain                            vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode plain --image assets/images/test.jpg
example animate_anything_salient                          vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode salient --image assets/images/test.jpg
example animate_anything_mask                             vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode mask --image assets/images/test.jpg --ref_mask assets/masks/test2.png
example animate_anything_bbox                             vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode bbox --image assets/images/test.jpg --ref_bbox 130,20,400,420
example animate_anything_salientmasktrack                 vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode salientmasktrack --image assets/images/test.jpg
example animate_anything_salientbboxtrack                 vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode salientbboxtrack --image assets/images/test.jpg
example animate_anything_maskpointtrack                   vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode maskpointtrack --image assets/images/test.jpg --ref_mask assets/masks/test2.png
example animate_anything_maskbboxtrack                    vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode maskbboxtrack --image assets/images/test.jpg --ref_mask assets/masks/dots2.png
example animate_anything_masktrack                        vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode masktrack --image assets/images/test.jpg --ref_mask assets/masks/test2.png
example animate_anything_bboxtrack                        vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode bboxtrack --image assets/images/test.jpg --ref_bbox 20,0,510,512
example animate_anything_label                            vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode label --image assets/images/test.jpg --ref_label person
example animate_anything_caption                          vace preprocess --task animate_anything --video assets/videos/person.mp4 --mode caption --image assets/images/test.jpg --ref_caption 'a woman in orange'
example swap_anything_masktrack_plain                     vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,plain --image assets/images/test.jpg
example swap_anything_masktrack_salient                   vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,salient --image assets/images/test.jpg
example swap_anything_masktrack_mask                      vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,mask --image assets/images/test.jpg --ref_mask assets/masks/test2.png
example swap_anything_masktrack_bbox                      vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,bbox --image assets/images/test.jpg --ref_bbox 130,20,400,420
example swap_anything_masktrack_salientmasktrack          vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,salientmasktrack --image assets/images/test.jpg
example swap_anything_masktrack_salientbboxtrack          vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,salientbboxtrack --image assets/images/test.jpg
example swap_anything_masktrack_maskpointtrack            vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,maskpointtrack --image assets/images/test.jpg --ref_mask assets/masks/test2.png
example swap_anything_masktrack_maskbboxtrack             vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,maskbboxtrack --image assets/images/test.jpg --ref_mask assets/masks/dots2.png
example swap_anything_masktrack_masktrack                 vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,masktrack --image assets/images/test.jpg --ref_mask assets/masks/test2.png
example swap_anything_masktrack_bboxtrack                 vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,bboxtrack --image assets/images/test.jpg --ref_bbox 20,0,510,512
example swap_anything_masktrack_label                     vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,label --image assets/images/test.jpg --ref_label person
example swap_anything_masktrack_caption                   vace preprocess --task swap_anything --video assets/videos/test.mp4 --mask assets/masks/test.png --mode masktrack,caption --image assets/images/test.jpg --ref_caption 'a woman in orange'
example swap_anything_salient_plain                       vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode salient,plain
example swap_anything_mask_plain                          vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode mask,plain --mask assets/masks/test.png
example swap_anything_bbox_plain                          vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode bbox,plain --bbox 100,60,260,220
example swap_anything_salientmasktrack_salientmasktrack   vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode salientmasktrack
example swap_anything_salientbboxtrack_salientbboxtrack   vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode salientbboxtrack
example swap_anything_maskpointtrack_plain                vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode maskpointtrack,plain --mask assets/masks/test.png
example swap_anything_maskbboxtrack_plain                 vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode maskbboxtrack,plain --mask assets/masks/dots.png
example swap_anything_bboxtrack_plain                     vace preprocess --task swap_anything --video assets/videos/test.mp4 --image assets/images/test.jpg --mode bboxtrack,plain --bbox 90,10,310,310
example swap_anything_label_label                         vace preprocess --task swap_anything --video assets/videos/person.mp4 --image assets/images/test.jpg --mode label --label person
example swap_anything_caption_caption                     vace preprocess --task swap_anything --video assets/videos/person.mp4 --image assets/images/test.jpg --mode caption --caption 'a woman in orange'
example expand_anything_firstframe_plain                  vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,plain --image assets/images/test2.jpg,assets/images/test.jpg
example expand_anything_firstframe_salient                vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,salient --image assets/images/test2.jpg,assets/images/test.jpg
example expand_anything_firstframe_mask                   vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,mask --image assets/images/test2.jpg,assets/images/test.jpg --ref_mask assets/masks/test2.png
example expand_anything_firstframe_bbox                   vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,bbox --image assets/images/test2.jpg,assets/images/test.jpg --ref_bbox 130,20,400,420
example expand_anything_firstframe_salientmasktrack       vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,salientmasktrack --image assets/images/test2.jpg,assets/images/test.jpg
example expand_anything_firstframe_salientbboxtrack       vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,salientbboxtrack --image assets/images/test2.jpg,assets/images/test.jpg
example expand_anything_firstframe_maskpointtrack         vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,maskpointtrack --image assets/images/test2.jpg,assets/images/test.jpg --ref_mask assets/masks/test2.png
example expand_anything_firstframe_maskbboxtrack          vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,maskbboxtrack --image assets/images/test2.jpg,assets/images/test.jpg --ref_mask assets/masks/dots2.png
example expand_anything_firstframe_masktrack              vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,masktrack --image assets/images/test2.jpg,assets/images/test.jpg --ref_mask assets/masks/test2.png
example expand_anything_firstframe_bboxtrack              vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,bboxtrack --image assets/images/test2.jpg,assets/images/test.jpg --ref_bbox 20,0,510,512
example expand_anything_firstframe_label                  vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,label --image assets/images/test2.jpg,assets/images/test.jpg --ref_label person
example expand_anything_firstframe_caption                vace preprocess --task expand_anything --direction left,right --expand_ratio 0.2 --expand_num 40 --mode firstframe,caption --image assets/images/test2.jpg,assets/images/test.jpg --ref_caption 'a woman in orange'
example expand_anything_lastframe_plain                   vace preprocess --task expand_anything --mode lastframe,plain --direction up --expand_num 40 --image assets/images/test2.jpg,assets/images/test.jpg
example more_anything                                     vace preprocess --task "frameref(mode=firstframe,image=assets/images/test.jpg)+outpainting(direction=left,expand_ratio=0.3)+image_reference(mode=salient,image=assets/images/test2.jpg)"
example more_anything                                     vace preprocess --task "inpainting(mode=masktrack,mask=assets/masks/test.png)+scribble+image_face(image=assets/images/test.jpg)" --video assets/videos/test.mp4

# the guide's spelling of the same command
example guide                                             python vace/vace_preproccess.py --task depth --video assets/videos/test.mp4

run_examples "$@"
