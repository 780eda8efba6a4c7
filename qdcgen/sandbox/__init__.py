"""Code that a model wrote, read and run in processes of its own: `processes` starts them, the others run in them."""
