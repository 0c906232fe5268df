"""Files: the two formats, their header, reading and writing, features that stay on disk, and a cache of files."""
