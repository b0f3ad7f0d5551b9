"""What operators ask and do: flows for the command line and the admin side, never imported by the hot path."""
