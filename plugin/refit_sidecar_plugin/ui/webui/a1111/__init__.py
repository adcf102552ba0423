"""A1111: an engine as the UI's own exchangeable UNet (`SdUnet`)."""
