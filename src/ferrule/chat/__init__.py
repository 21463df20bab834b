"""Text and messages: codecs (how calls are written), renderers (how turns are laid out), load-time template checks."""
