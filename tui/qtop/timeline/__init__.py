"""A recording as a whole: what happened when in it, found beside the replay, and how to go to any moment of it."""
