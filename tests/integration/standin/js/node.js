// node node.js '<options as JSON>': runs the suite and prints its results as JSON.
const PubNub = require('pubnub');
const run = require('./suite.js');

run(PubNub, JSON.parse(process.argv[2])).then((results) => {
  process.stdout.write(`${JSON.stringify(results)}\n`, () => process.exit(0));
});
