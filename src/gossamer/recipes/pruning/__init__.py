"""What `gossamer.prune` is made of: units removed at once, what is left counted, trainings that prune."""
