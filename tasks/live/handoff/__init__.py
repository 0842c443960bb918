"""The hand-off to people: send a batch, receive their answers. One module an annotation tool; `files` is the first."""
