"""What is said to the language model, as text: ``system``, one worked example, ``next_part``, ``repair``."""
