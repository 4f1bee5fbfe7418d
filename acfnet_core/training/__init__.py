"""One site's training and evaluation: yields events, prints nothing, sends nothing."""
