#!/usr/bin/env bash
# Preprocessing, one example per task and mode: ./run_vace_preprocess.sh [NAME ... | all | list]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/examples.sh

# control: the whole clip is made anew, led by what is drawn in src_video
example gray              vace preprocess --task gray --video assets/videos/test.mp4
example plain             vace preprocess --task plain --video assets/videos/test.mp4
example layout_bbox       vace preprocess --task layout_bbox --bbox '80,60,240,300 400,60,600,300' --size 640x352 --label cat

# extension: given pictures or clips are kept, the rest is made
example frameref_firstframe      vace preprocess --task frameref --mode firstframe --image assets/images/test.jpg
example frameref_lastframe       vace preprocess --task frameref --mode lastframe --image assets/images/test.jpg --expand_num 40
example frameref_firstlastframe  vace preprocess --task frameref --mode firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg
example clipref_firstclip        vace preprocess --task clipref --mode firstclip --video assets/videos/test.mp4 --clip_frames 17
example clipref_lastclip         vace preprocess --task clipref --mode lastclip --video assets/videos/test.mp4 --clip_frames 17
example clipref_firstlastclip    vace preprocess --task clipref --mode firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --clip_frames 17
example firstframe        vace preprocess --task firstframe --image assets/images/test.jpg
example lastframe         vace preprocess --task lastframe --image assets/images/test.jpg
example firstlastframe    vace preprocess --task firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg
example firstclip         vace preprocess --task firstclip --video assets/videos/test.mp4 --clip_frames 17
example lastclip          vace preprocess --task lastclip --video assets/videos/test.mp4 --clip_frames 17
example firstlastclip     vace preprocess --task firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --clip_frames 17
example framerefext       vace preprocess --task framerefext --video assets/videos/test.mp4 --ref_num 3 --seed 7

# repainting: a region of the clip, or what lies around it, is made anew
example inpainting_mode_mask  vace preprocess --task inpainting --mode mask --video assets/videos/test.mp4 --mask assets/masks/test.png
example inpainting_mode_bbox  vace preprocess --task inpainting --mode bbox --video assets/videos/test.mp4 --bbox 100,60,260,220
example inpainting_mask   vace preprocess --task inpainting_mask --video assets/videos/test.mp4 --mask assets/masks/test.png --maskaug_mode hull_expand --maskaug_ratio 0.3
example inpainting_bbox   vace preprocess --task inpainting_bbox --video assets/videos/test.mp4 --bbox 100,60,260,220
example outpainting       vace preprocess --task outpainting --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.25
example outpainting_inner vace preprocess --task outpainting_inner --video assets/videos/test.mp4 --direction up,down --expand_ratio 0.2

# reference: pictures of what shall appear
example image_plain            vace preprocess --task image_plain --image assets/images/test.jpg,assets/images/test2.jpg
example image_gray             vace preprocess --task image_gray --image assets/images/test.jpg
example image_reference_plain  vace preprocess --task image_reference --mode plain --image assets/images/test.jpg
example image_reference_mask   vace preprocess --task image_reference --mode mask --image assets/images/test.jpg --mask assets/masks/test2.png
example image_reference_bbox   vace preprocess --task image_reference --mode bbox --image assets/images/test.jpg --bbox 130,20,400,420
example image_outpainting      vace preprocess --task image_outpainting --image assets/images/test.jpg --direction left,right

# composition: several in one. The first two lines prepare what the third puts together.
example composition       vace preprocess --task firstclip --video assets/videos/test.mp4 --clip_frames 17 --expand_num 32 --pre_save_dir processed/examples/first
example composition       vace preprocess --task outpainting_inner --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.2 --pre_save_dir processed/examples/second
example composition       vace preprocess --task composition --src_video processed/examples/first/src_video-firstclip.mp4,processed/examples/second/src_video-outpainting_inner.mp4 --src_mask processed/examples/first/src_mask-firstclip.mp4,processed/examples/second/src_mask-outpainting_inner.mp4 --process_type firstclip,outpainting_inner
example move_anything     vace preprocess --task move_anything --image assets/images/test.jpg --bbox '150,30,380,300 20,30,250,300'
example expand_anything   vace preprocess --task expand_anything --mode firstframe,plain --image assets/images/test.jpg,assets/images/test2.jpg --direction left,right --expand_ratio 0.2

# the guide's spelling of the same command
example guide             python vace/vace_preproccess.py --task gray --video assets/videos/test.mp4

run_examples "$@"
