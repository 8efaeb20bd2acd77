"""Pure: values in, values out. Time is an argument; nothing here reads, writes or waits."""
