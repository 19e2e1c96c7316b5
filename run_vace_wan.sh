#!/usr/bin/env bash
# Generation from prepared files: ./run_vace_wan.sh [NAME ... | all | list]
# Without --ckpt_dir or --model_name a model on this machine serves, or the embedded toy. For real weights add
#   --model_name vace-1.3B      or      --ckpt_dir models/Wan2.1-VACE-1.3B
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/examples.sh

# video and mask: a region is made anew
example inpainting    vace preprocess --task inpainting_mask --video assets/videos/test.mp4 --mask assets/masks/test.png --pre_save_dir processed/examples/inpainting
example inpainting    vace wan --src_video processed/examples/inpainting/src_video-inpainting_mask.mp4 --src_mask processed/examples/inpainting/src_mask-inpainting_mask.mp4 --prompt 'A red fox stands in the meadow, soft morning light'

# words alone
example txt2vid       vace wan --prompt 'A paper boat drifts down a rainy street, seen from above'

# words and pictures: what is on them appears
example reference     vace wan --src_ref_images assets/images/test.jpg,assets/images/test2.jpg --prompt 'An astronaut plays with a cat on a beach' --seed 7

# a control video: all of it is made anew, led by the gray clip
example gray          vace preprocess --task gray --video assets/videos/test.mp4 --pre_save_dir processed/examples/gray
example gray          vace wan --src_video processed/examples/gray/src_video-gray.mp4 --prompt 'The same scene in bright colours' --sampler dpm++ --steps 4

# video, mask and reference
example all_three     vace preprocess --task inpainting_bbox --video assets/videos/test.mp4 --bbox 100,60,260,220 --pre_save_dir processed/examples/bbox
example all_three     vace wan --src_video processed/examples/bbox/src_video-inpainting_bbox.mp4 --src_mask processed/examples/bbox/src_mask-inpainting_bbox.mp4 --src_ref_images assets/images/test2.jpg --prompt 'A cat sits in the meadow'

# two videos of one prompt, lossless
example two_seeds     vace wan --prompt 'Waves break on black rocks' --num_videos 2 --seed 11 --out_format exact --guidance_scale 1

# the guide's spelling, with the flags of the original
example guide         python vace/vace_wan_inference.py --prompt 'A lantern swings in the wind' --size '128*80' --frame_num 17 --sample_steps 4 --sample_shift 8 --sample_guide_scale 3 --base_seed 5 --sample_solver unipc --ckpt_dir tiny

run_examples "$@"
