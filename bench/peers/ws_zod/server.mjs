// PeerShare's protocol as a competent Node developer would write it, on npm's `ws` and `zod`: what PeerShare
// is measured against. It logs nothing, checks every message, and writes a broadcast's JSON once.
//
//     node server.mjs [HEARTBEAT_MS]

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { z } from 'zod';

const heartbeatMs = Number(process.argv[2] ?? 30000);
const startedAt = Date.now();

// --- what a client may say ---

// eslint-disable-next-line no-control-regex
const noControl = /^[^\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]*$/;
const groupName = z.string().trim().min(1).max(100).regex(noControl);
const username = z.string().trim().min(1).max(50).regex(noControl);
const peerId = z.string().trim().min(1).max(100);
const uuid = z.string().trim().toLowerCase().uuid();

const message = (type, payload) =>
  z.object({
    type: z.literal(type),
    payload: z.object(payload),
    timestamp: z.number().optional(),
    requestId: z.string().min(1).max(64).optional(),
  });

const clientMessage = z.discriminatedUnion('type', [
  message('create-group', { groupName, username }),
  message('join-group', { groupId: uuid, username, peerId: peerId.optional() }),
  message('leave-group', { userId: uuid }),
  message('update-peer-id', { peerId }),
  message('call-request', { targetPeerId: peerId, fromPeerId: peerId, fromUsername: username }),
  message('call-response', { accepted: z.boolean(), fromPeerId: peerId, toPeerId: peerId }),
  message('signal', { to: uuid, data: z.unknown() }),
  message('ping', {}),
]);

// --- who is there ---

const groups = new Map(); // id -> { id, name, createdAt, members: userId -> client, names, peers: peerId -> client }

function write(type, payload, requestId) {
  return JSON.stringify({ type, payload, timestamp: Date.now(), requestId });
}

function send(client, type, payload, requestId) {
  client.socket.send(write(type, payload, requestId));
}

function broadcast(group, except, type, payload) {
  if (group.members.size < 2) return;
  const text = write(type, payload);
  for (const member of group.members.values()) {
    if (member !== except) member.socket.send(text);
  }
}

function fail(client, code, text, requestId, details) {
  send(client, 'error', { code, message: text, details }, requestId);
}

function userOf({ userId, username, peerId }) {
  return { id: userId, username, peerId };
}

function others(group, client) {
  return [...group.members.values()].filter((member) => member !== client);
}

function peersOf(group, client) {
  const found = others(group, client).filter((member) => member.peerId);
  return { peers: found.map(({ peerId, username }) => ({ peerId, username })) };
}

function freeName(group, wanted) {
  let name = wanted;
  for (let n = 1; group.names.has(name.toLowerCase()); n += 1) {
    name = wanted.slice(0, 50 - String(n).length) + n;
  }
  return name;
}

function enter(group, client, wanted) {
  client.group = group;
  client.username = freeName(group, wanted);
  group.members.set(client.userId, client);
  group.names.add(client.username.toLowerCase());
  if (client.peerId) group.peers.set(client.peerId, client);
}

function leave(client, reason) {
  const { group, userId, username } = client;
  if (!group) return;
  client.group = null;
  group.members.delete(userId);
  group.names.delete(username.toLowerCase());
  group.peers.delete(client.peerId);
  if (group.members.size === 0) groups.delete(group.id);
  broadcast(group, client, 'user-left', { userId, username, reason });
}

function isTaken(group, peerId, client) {
  const holder = group.peers.get(peerId);
  return holder !== undefined && holder !== client;
}

// --- what each message means ---

const handlers = {
  'create-group'(client, { groupName, username }, requestId) {
    leave(client, 'left');
    const group = {
      id: randomUUID(),
      name: groupName,
      createdAt: new Date().toISOString(),
      members: new Map(),
      names: new Set(),
      peers: new Map(),
    };
    groups.set(group.id, group);
    enter(group, client, username);
    const user = { id: client.userId, username: client.username };
    send(client, 'group-created', { groupId: group.id, groupName, user }, requestId);
  },

  'join-group'(client, { groupId, username, peerId }, requestId) {
    const group = groups.get(groupId);
    if (!group) return fail(client, 'GROUP_NOT_FOUND', 'Group does not exist', requestId, {});
    const wanted = peerId ?? client.peerId;
    if (wanted && isTaken(group, wanted, client)) {
      return fail(client, 'PEER_ID_TAKEN', 'Peer ID is already in use in this group', requestId);
    }
    const isNew = client.group !== group;
    const isNews = wanted !== client.peerId;
    if (isNew) {
      leave(client, 'left');
      client.peerId = wanted;
      enter(group, client, username);
    } else if (isNews) {
      setPeerId(group, client, wanted);
    }
    const user = { id: client.userId, username: client.username };
    const members = others(group, client).map(userOf);
    send(client, 'group-joined', { groupId, groupName: group.name, user, members }, requestId);
    if (client.peerId) send(client, 'existing-peers', peersOf(group, client));
    if (isNew) broadcast(group, client, 'user-joined', { user: userOf(client) });
    if (client.peerId && (isNew || isNews)) announce(group, client);
  },

  'leave-group'(client, { userId }, requestId) {
    if (!client.group || userId !== client.userId) {
      return fail(client, 'USER_NOT_FOUND', 'User ID mismatch', requestId);
    }
    send(client, 'group-left', { groupId: client.group.id }, requestId);
    leave(client, 'left');
  },

  'update-peer-id'(client, { peerId }, requestId) {
    const { group } = client;
    if (!group) {
      client.peerId = peerId;
      return send(client, 'peer-id-updated', { peerId }, requestId);
    }
    if (isTaken(group, peerId, client)) {
      return fail(client, 'PEER_ID_TAKEN', 'Peer ID is already in use in this group', requestId);
    }
    setPeerId(group, client, peerId);
    send(client, 'existing-peers', peersOf(group, client), requestId);
    announce(group, client);
  },

  'call-request'(client, { targetPeerId, fromPeerId }, requestId) {
    const target = client.group?.peers.get(targetPeerId);
    if (!target || target === client) {
      return fail(client, 'PEER_NOT_FOUND', 'Target peer not found', requestId);
    }
    if (fromPeerId !== client.peerId) {
      return fail(client, 'PEER_NOT_FOUND', 'Caller peer not found', requestId);
    }
    send(target, 'incoming-call-request', { fromPeerId: client.peerId, fromUsername: client.username });
  },

  'call-response'(client, { accepted, fromPeerId, toPeerId }, requestId) {
    const own = client.peerId;
    const callerId = fromPeerId === own ? toPeerId : fromPeerId;
    const caller = client.group?.peers.get(callerId);
    if (!caller || caller === client || (own !== fromPeerId && own !== toPeerId)) {
      return fail(client, 'PEER_NOT_FOUND', 'Caller peer not found', requestId);
    }
    send(caller, 'call-response', { accepted, fromPeerId: own, toPeerId: callerId });
  },

  signal(client, { to, data }, requestId) {
    const target = client.group?.members.get(to);
    if (!target || target === client) {
      return fail(client, 'USER_NOT_FOUND', 'Target user not found', requestId);
    }
    send(target, 'signal', { from: client.userId, data });
  },

  ping(client, payload, requestId) {
    send(client, 'pong', {}, requestId);
  },
};

function setPeerId(group, client, peerId) {
  group.peers.delete(client.peerId);
  client.peerId = peerId;
  group.peers.set(peerId, client);
}

function announce(group, client) {
  broadcast(group, client, 'peer-joined', { peerId: client.peerId, username: client.username });
}

function hear(client, data) {
  let value;
  try {
    value = JSON.parse(data);
  } catch {
    return fail(client, 'INVALID_MESSAGE', 'Invalid JSON format');
  }
  const parsed = clientMessage.safeParse(value);
  if (!parsed.success) {
    const details = { validationErrors: parsed.error.issues };
    return fail(client, 'INVALID_MESSAGE', 'Invalid message format', value?.requestId, details);
  }
  const { type, payload, requestId } = parsed.data;
  handlers[type](client, payload, requestId);
}

// --- REST ---

function stats() {
  let totalUsers = 0;
  for (const group of groups.values()) totalUsers += group.members.size;
  const averageGroupSize = groups.size ? Math.round((100 * totalUsers) / groups.size) / 100 : 0;
  return { totalGroups: groups.size, totalUsers, averageGroupSize };
}

function answer(path) {
  if (path === '/api/health') {
    const uptime = (Date.now() - startedAt) / 1000;
    return [200, { status: 'ok', timestamp: new Date().toISOString(), uptime, stats: stats() }];
  }
  if (path.startsWith('/api/group/')) {
    const id = uuid.safeParse(path.slice(11));
    if (!id.success) {
      const error = 'Invalid group ID format';
      return [400, { error, code: 'INVALID_GROUP_ID', details: id.error.issues }];
    }
    const group = groups.get(id.data);
    if (!group) return [404, { error: 'Group not found', code: 'GROUP_NOT_FOUND' }];
    const { name, createdAt, members } = group;
    return [200, { id: group.id, name, createdAt, memberCount: members.size, exists: true }];
  }
  return [404, { error: 'Not found', code: 'NOT_FOUND' }];
}

const http = createServer((request, response) => {
  const [status, body] = answer(request.url);
  const text = JSON.stringify(body);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
});

// --- connections ---

const server = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: 65536 });

server.on('connection', (socket) => {
  const client = { socket, userId: randomUUID(), username: '', peerId: undefined, group: null };
  socket.isAlive = true;
  socket.on('pong', () => {
    socket.isAlive = true;
  });
  socket.on('message', (data) => {
    socket.isAlive = true;
    hear(client, data);
  });
  socket.on('close', () => leave(client, socket.isAlive ? 'disconnected' : 'timeout'));
  socket.on('error', () => socket.terminate());
  send(client, 'connection-established', { userId: client.userId });
});

setInterval(() => {
  for (const socket of server.clients) {
    if (socket.isAlive) {
      socket.isAlive = false;
      socket.ping();
    } else {
      socket.terminate();
    }
  }
}, heartbeatMs);

http.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`at http://127.0.0.1:${http.address().port}`);
});
