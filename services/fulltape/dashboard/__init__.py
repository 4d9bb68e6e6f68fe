"""Shows the market and the pipeline to browsers, live."""
