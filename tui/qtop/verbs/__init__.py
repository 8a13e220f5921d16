"""What each verb of the command does, without a terminal; the dashboard lives in ui."""
