// npm's `peer`, the reference server for PeerJS clients, as it comes: what PeerShare's broker is measured against.
// Started from a program it logs nothing, unlike its command line. Its bounds are out of the way.
//
//     node server.mjs

import { PeerServer } from 'peer';

const options = { host: '127.0.0.1', port: 0, path: '/', key: 'peerjs', concurrent_limit: 100000, alive_timeout: 3600000 };

PeerServer(options, (server) => {
  console.log(`at http://127.0.0.1:${server.address().port}`);
});
