"""The parts of make_gallery.py: toy scenes and their files, the table of examples, moving previews, the page."""
