"""What runs on several devices and machines."""
