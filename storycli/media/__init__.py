"""Files that people have: videos, pictures and sound, read and written."""
