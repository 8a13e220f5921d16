"""What a server's configuration says, source by source; one file a source. What follows from it is the model's."""
