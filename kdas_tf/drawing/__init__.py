"""What people look at: pictures, curves, ranked lists, the page."""
