"""`fulltape bench operator`: how fast, and at what cost, the operator makes feeds come true."""
