"""The storybook world: captioned scenes with exact depth, drawn from 3-D emoji, for training and evaluation."""
