"""How the embedded models are trained. Not part of the installed package."""
