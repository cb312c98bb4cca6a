"""What each step of training reads: tokens or rows, held out, ordered and cut into batches."""
