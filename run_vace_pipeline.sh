#!/usr/bin/env bash
# From materials and a prompt to a video, one example per task and mode: ./run_vace_pipeline.sh [NAME ... | all | list]
# Without --ckpt_dir or --model_name a model on this machine serves, or the embedded toy. For real weights add
#   --model_name vace-1.3B      or      --ckpt_dir models/Wan2.1-VACE-1.3B
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/examples.sh

# repainting
example inpainting_mask   vace pipeline --base wan --task inpainting_mask --video assets/videos/test.mp4 --mask assets/masks/test.png --prompt 'A red fox stands in the meadow, soft morning light'
example inpainting_bbox   vace pipeline --base wan --task inpainting_bbox --video assets/videos/test.mp4 --bbox 100,60,260,220 --prompt 'A red balloon floats over the meadow'
example inpainting_mode_mask  vace pipeline --base wan --task inpainting --mode mask --video assets/videos/test.mp4 --mask assets/masks/test.png --maskaug_mode bbox_expand --maskaug_ratio 0.2 --prompt 'A red fox stands in the meadow'
example inpainting_mode_bbox  vace pipeline --base wan --task inpainting --mode bbox --video assets/videos/test.mp4 --bbox 100,60,260,220 --prompt 'A red balloon floats over the meadow'
example outpainting       vace pipeline --base wan --task outpainting --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.25 --prompt 'A wide green meadow under a blue sky'
example outpainting_inner vace pipeline --base wan --task outpainting_inner --video assets/videos/test.mp4 --direction up,down --expand_ratio 0.2 --prompt 'A green meadow under a blue sky'

# words alone
example txt2vid           vace pipeline --base wan --task txt2vid --prompt 'A paper boat drifts down a rainy street, seen from above'

# control
example gray              vace pipeline --base wan --task gray --video assets/videos/test.mp4 --prompt 'The same scene in bright colours'
example plain             vace pipeline --base wan --task plain --video assets/videos/test.mp4 --prompt 'The same scene as an oil painting'
example layout_bbox       vace pipeline --base wan --task layout_bbox --bbox '10,20,40,70 80,20,120,70' --label cat --prompt 'A cat walks from left to right'

# extension
example frameref_firstframe      vace pipeline --base wan --task frameref --mode firstframe --image assets/images/test.jpg --prompt 'The astronaut turns and smiles'
example frameref_lastframe       vace pipeline --base wan --task frameref --mode lastframe --image assets/images/test.jpg --prompt 'An astronaut sits down for a portrait'
example frameref_firstlastframe  vace pipeline --base wan --task frameref --mode firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg --prompt 'An astronaut becomes a cat'
example clipref_firstclip        vace pipeline --base wan --task clipref --mode firstclip --video assets/videos/test.mp4 --prompt 'The scene goes on'
example clipref_lastclip         vace pipeline --base wan --task clipref --mode lastclip --video assets/videos/test.mp4 --prompt 'How the scene began'
example clipref_firstlastclip    vace pipeline --base wan --task clipref --mode firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --prompt 'One scene becomes the other'
example firstframe        vace pipeline --base wan --task firstframe --image assets/images/test.jpg --prompt 'The astronaut turns and smiles'
example lastframe         vace pipeline --base wan --task lastframe --image assets/images/test.jpg --prompt 'An astronaut sits down for a portrait'
example firstlastframe    vace pipeline --base wan --task firstlastframe --image assets/images/test.jpg,assets/images/test2.jpg --prompt 'An astronaut becomes a cat'
example firstclip         vace pipeline --base wan --task firstclip --video assets/videos/test.mp4 --prompt 'The scene goes on'
example lastclip          vace pipeline --base wan --task lastclip --video assets/videos/test.mp4 --prompt 'How the scene began'
example firstlastclip     vace pipeline --base wan --task firstlastclip --video assets/videos/test.mp4,assets/videos/test2.mp4 --prompt 'One scene becomes the other'
example framerefext       vace pipeline --base wan --task framerefext --video assets/videos/test.mp4 --ref_num 3 --seed 7 --prompt 'A meadow in spring'

# reference
example image_plain            vace pipeline --base wan --task image_plain --image assets/images/test.jpg,assets/images/test2.jpg --prompt 'An astronaut plays with a cat'
example image_gray             vace pipeline --base wan --task image_gray --image assets/images/test.jpg --prompt 'An astronaut on the moon'
example image_reference_plain  vace pipeline --base wan --task image_reference --mode plain --image assets/images/test.jpg --prompt 'An astronaut on the moon'
example image_reference_mask   vace pipeline --base wan --task image_reference --mode mask --image assets/images/test.jpg --mask assets/masks/test2.png --prompt 'An astronaut on the moon'
example image_reference_bbox   vace pipeline --base wan --task image_reference --mode bbox --image assets/images/test.jpg --bbox 130,20,400,420 --prompt 'An astronaut on the moon'
example image_outpainting      vace pipeline --base wan --task image_outpainting --image assets/images/test.jpg --direction left,right --prompt 'An astronaut before a flag'

# composition. The first two lines prepare what the third puts together.
example composition       vace preprocess --task firstclip --video assets/videos/test.mp4 --clip_frames 5 --expand_num 12 --pre_save_dir processed/examples/first
example composition       vace preprocess --task outpainting_inner --video assets/videos/test.mp4 --direction left,right --expand_ratio 0.2 --pre_save_dir processed/examples/second
example composition       vace pipeline --base wan --task composition --src_video processed/examples/first/src_video-firstclip.mp4,processed/examples/second/src_video-outpainting_inner.mp4 --src_mask processed/examples/first/src_mask-firstclip.mp4,processed/examples/second/src_mask-outpainting_inner.mp4 --process_type firstclip,outpainting_inner --prompt 'The scene goes on'
example move_anything     vace pipeline --base wan --task move_anything --image assets/images/test.jpg --bbox '150,30,380,300 20,30,250,300' --prompt 'The astronaut floats to the left'
example expand_anything   vace pipeline --base wan --task expand_anything --mode firstframe,plain --image assets/images/test.jpg,assets/images/test2.jpg --direction left,right --expand_ratio 0.2 --prompt 'An astronaut and a cat'

# long videos: five seconds at a time, each going on from the end of the one before
example chain             vace pipeline --base wan --task firstclip --video assets/videos/test.mp4 --prompt 'The scene goes on' --save_dir results/examples/chain-1
example chain             vace pipeline --base wan --task firstclip --video results/examples/chain-1/out_video.mp4 --prompt 'The scene goes on and on' --save_dir results/examples/chain-2

# the guide's spelling of the same command
example guide             python vace/vace_pipeline.py --base wan --task gray --video assets/videos/test.mp4 --prompt 'The same scene in bright colours'

run_examples "$@"
