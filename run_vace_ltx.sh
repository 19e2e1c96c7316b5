#!/usr/bin/env bash
# Generation by VACE-LTX from prepared files: ./run_vace_ltx.sh [NAME ... | all | list]
# Without --ckpt_dir or --model_name a model on this machine serves, or the embedded toy. For real weights add
#   --model_name vace-ltx-0.9      or      --ckpt_path models/VACE-LTX-Video-0.9/ltx-video-2b-v0.9.safetensors
# and --use_prompt_extend: LTX asks for long prompts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/examples.sh

# video and mask: a region is made anew
example inpainting    vace preprocess --task inpainting_mask --video assets/videos/test.mp4 --mask assets/masks/test.png --pre_save_dir processed/examples/ltx_inpainting
example inpainting    vace ltx --src_video processed/examples/ltx_inpainting/src_video-inpainting_mask.mp4 --src_mask processed/examples/ltx_inpainting/src_mask-inpainting_mask.mp4 --prompt 'A red fox turns its head and looks around. It has a thick orange coat and a white chest. It stands in a wide meadow. The camera does not move. Soft morning light. The scene is animated film.'

# words alone
example txt2vid       vace ltx --prompt 'A paper boat drifts down a rainy street, seen from above' --frame_rate 24

# words and pictures: what is on them appears
example reference     vace ltx --src_ref_images assets/images/test.jpg,assets/images/test2.jpg --prompt 'An astronaut strokes a cat on a beach' --seed 7

# a control video: all of it is made anew, led by the gray clip; without spatio-temporal guidance it is faster
example gray          vace preprocess --task gray --video assets/videos/test.mp4 --pre_save_dir processed/examples/ltx_gray
example gray          vace ltx --src_video processed/examples/ltx_gray/src_video-gray.mp4 --prompt 'The same scene in bright colours' --stg_scale 0 --steps 4

# video, mask and reference
example all_three     vace preprocess --task inpainting_bbox --video assets/videos/test.mp4 --bbox 100,60,260,220 --pre_save_dir processed/examples/ltx_bbox
example all_three     vace ltx --src_video processed/examples/ltx_bbox/src_video-inpainting_bbox.mp4 --src_mask processed/examples/ltx_bbox/src_mask-inpainting_bbox.mp4 --src_ref_images assets/images/test2.jpg --prompt 'A cat sits in the meadow' --posterior mode

# two videos of one prompt, lossless
example two_seeds     vace ltx --prompt 'Waves break on black rocks' --num_videos 2 --seed 11 --out_format exact --guidance_scale 1

# the guide's spelling, with the flags of the original
example guide         python vace/vace_ltx_inference.py --prompt 'A lantern swings in the wind' --height 96 --width 128 --num_frames 17 --frame_rate 25 --num_inference_steps 4 --guidance_scale 3 --stg_scale 1 --stg_rescale 0.7 --stg_mode stg_a --stg_skip_layers 4 --num_images_per_prompt 1 --precision mixed_precision --seed 5 --ckpt_dir tiny --use_prompt_extend plain

run_examples "$@"
