"""One file per kind of trigger: parse it, call one thing in the relay, render the outcome."""
