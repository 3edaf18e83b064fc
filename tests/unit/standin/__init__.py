"""The parts of the stand-in, without HTTP."""
