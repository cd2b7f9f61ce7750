"""Networks, schedules and samplers, which know nothing of storycli; some are those of transformers and diffusers.

``weights.py`` and ``checkpoint.py`` read and write weights, ``text.py`` and ``image_text.py`` read vocabularies and
settings; all else does no I/O.

Shapes are written with one legend everywhere: ``b`` batch, ``c`` channels, ``f`` frames, ``h w`` latent
height and width, ``H W`` pixel height and width, ``l`` text tokens, ``d`` text width. Video tensors are
``(b, c, f, h, w)`` at public boundaries and ``((b f), c, h, w)`` inside the networks. ``t`` is diffusion
time, never a frame. Pixels are in [-1, 1]; depth is in [0, 1] with 1 = near unless a docstring says otherwise.
"""
