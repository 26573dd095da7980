"""Programs that take longer than a suite may: measured ratios, floods, races. `python -m bench` lists them."""
