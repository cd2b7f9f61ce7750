"""The paper's measurements, made again inside the storybook world, or on people's own clips."""
