"""Maps exported from the Data integration toolkit → map files of the relay. Pure: data in, text and a report out."""
