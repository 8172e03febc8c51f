"""Many requests, over as many connections as there are origins."""
