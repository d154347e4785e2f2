// Preloaded into Azurite: it ends when the process that started it closes its input, or dies.
process.stdin.on("end", () => process.exit(0)).resume();
