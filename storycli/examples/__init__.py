"""The built-in example: a story, pictures of its hero, and a library of clips that hold its motion.

``python -m storycli.examples ASSETS`` draws the pictures and the clips again with the storybook world.
"""
