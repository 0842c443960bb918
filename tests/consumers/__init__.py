"""Programs that the consumers' environment runs (`make consumers`); nothing here is imported by the tests."""
