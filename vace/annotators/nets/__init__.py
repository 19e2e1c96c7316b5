"""The networks, one file each. What a network of a name offers, by either backend:

depth, depthv2   depths(frames) -> float32 [t,H,W], inverse depth: larger is nearer; frames: RGB uint8 [t,H,W,3].
                 Where it works at another size, also maps(frames) -> float32 [t,h,w] at that size; where it remembers
                 frames, also fresh() -> a copy that remembers none; where it keeps its range, limits = (low, high).
flow             flows(first, second) -> float32 [t,H,W,2], pixels right and down, for RGB uint8 pairs [t,H,W,3].
pose             poses(frames, memory=None, hands=True) -> one `poses.People` per frame; memory: a `poses.Memory` kept
                 for one clip; short_side: what frames are best brought to, None for any size.
scribble         lines(frames) -> uint8 [t,H,W], dark lines on white.
salient          maps(frames) -> uint8 [t,H,W], 0..255, larger is more salient.
segment          mask(image, prompt) -> uint8 [H,W], 0 or 255;
                 track(clip, prompt) -> chunks of uint8 [t,H,W], one mask per frame; prompt: `prompts.Prompt`.
detect           find(image, label=[...]) or find(image, caption="...") -> list of `prompts.Detection`, best first.
face             faces(image) -> list of boxes (x1, y1, x2, y2) as floats, best first.

Neural ones are made by Class(weights, device=..., batch_size=...), embedded ones by Class().
"""
