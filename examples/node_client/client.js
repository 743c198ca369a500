// A minimal client in JavaScript: an environment of its own, the wire of proto/seedbed.proto, and nothing else.
//
//   seedbed server --env seedbed/Catch-v0 --run-dir runs/node --port 7777 --num-envs 4
//   cd examples/node_client && npm install && node client.js 127.0.0.1:7777 50
//
// It plays Catch: a ball falls through a grid of 10 x 5, and a paddle in the last row is moved left, not at all or right.

'use strict';

const crypto = require('node:crypto');
const os = require('node:os');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const FIRST = 0, MID = 1, LAST = 2;
const ROWS = 10, COLUMNS = 5;

class Catch {
  reset() {
    this.ball = [0, crypto.randomInt(COLUMNS)];
    this.paddle = Math.floor(COLUMNS / 2);
    return this.look();
  }

  // action: 0, 1 or 2, as it travels; returns [observation, reward, over].
  step(action) {
    this.paddle = Math.min(Math.max(this.paddle + action - 1, 0), COLUMNS - 1);
    this.ball[0] += 1;
    const over = this.ball[0] === ROWS - 1;
    return [this.look(), over ? (this.paddle === this.ball[1] ? 1 : -1) : 0, over];
  }

  // Row by row, as the spec says that Describe answers.
  look() {
    const grid = new Float32Array(ROWS * COLUMNS);
    grid[this.ball[0] * COLUMNS + this.ball[1]] = 1;
    grid[(ROWS - 1) * COLUMNS + this.paddle] = 1;
    return Buffer.from(grid.buffer); // typed arrays are little-endian wherever Node runs
  }
}

const float32 = (value) => Buffer.from(new Float32Array([value]).buffer);

async function main(address, numEpisodes) {
  const proto = path.join(__dirname, '..', '..', 'proto', 'seedbed.proto');
  const definition = protoLoader.loadSync(proto, { keepCase: true, longs: Number, enums: String, defaults: true });
  const { Seedbed } = grpc.loadPackageDefinition(definition).seedbed.v1;
  const client = new Seedbed(address, grpc.credentials.createInsecure());

  const served = await new Promise((resolve, reject) =>
    client.Describe({}, (error, reply) => (error ? reject(error) : resolve(reply))));
  const spec = served.specs[0]; // sent back as it came: the contract
  const stream = client.Act();
  const replies = stream[Symbol.asyncIterator]();
  const hear = async () => {
    const { value, done } = await replies.next();
    if (done || value.drain) throw new Error(value?.drain ? `drain: ${value.drain.reason}` : 'the server has left');
    return value;
  };

  stream.write({
    hello: {
      protocol: served.protocol,
      client_id: `node-${os.hostname()}-${process.pid}`,
      run_id: 1 + crypto.randomInt(2 ** 47), // numbers are doubles: below 2^53, and never 0
      group: 0,
      environments: [{ task: spec.environment, index: 0 }],
      spec,
      assign_indices: true,
    },
  });
  await hear(); // Welcome

  let seq = 0;
  const ask = async (stepType, reward, discount, observation, episodeEnds = []) => {
    seq += 1;
    stream.write({
      steps: {
        seq,
        step_type: Buffer.from([stepType]),
        reward: float32(reward),
        discount: float32(discount),
        observations: [observation],
        episode_ends: episodeEnds,
      },
    });
    const { actions } = await hear();
    return Number(actions.actions[0].readBigInt64LE(0));
  };

  const env = new Catch();
  const returns = [];
  while (returns.length < numEpisodes) {
    let action = await ask(FIRST, 0, 1, env.reset());
    for (let steps = 1; ; steps += 1) {
      const [observation, reward, over] = env.step(action);
      if (over) {
        // The answer to a LAST timestep means nothing, but must be awaited.
        await ask(LAST, reward, 0, observation, [{ row: 0, episode_return: reward, steps, frames: steps }]);
        returns.push(reward);
        break;
      }
      action = await ask(MID, reward, 1, observation);
    }
  }
  stream.write({ goodbye: { reason: 'finished' } });
  stream.end();
  client.close();
  const mean = returns.reduce((sum, one) => sum + one, 0) / returns.length;
  console.log(JSON.stringify({ episodes: returns.length, mean }));
}

main(process.argv[2], Number(process.argv[3] ?? 50)).catch((error) => {
  console.error(error.message);
  process.exit(1);
});
