// Preloaded into Azurite: prints one line of JSON once its three services listen, and ends when its standard input does.
const listening = {};
console.log = (line) => {
  const found = /Azurite (Blob|Queue|Table) service is successfully listening at (\S+)/.exec(line);
  if (!found) return;
  listening[found[1].toLowerCase()] = found[2].replace(/\/$/, '');
  if (Object.keys(listening).length === 3) process.stdout.write(`${JSON.stringify(listening)}\n`);
};
process.stdin.on('end', () => process.exit(0)).resume();
