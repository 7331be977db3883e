"""The providers' wire formats, one file each. What they share is in `base.py`; which one reads what: `registry.py`."""
