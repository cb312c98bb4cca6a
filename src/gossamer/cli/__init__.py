"""The command `gossamer`: one file a verb, imported when that verb is called."""
