/** The least of a vhost-user back end (QEMU docs/interop/vhost-user): enough for a front end to be realized. */
import { createServer } from "node:net";

const GET_FEATURES = 1;
const GET_VRING_BASE = 11;
const GET_PROTOCOL_FEATURES = 15;
const GET_QUEUE_NUM = 17;
const GET_CONFIG = 24;
const GET_INFLIGHT_FD = 31;
const GET_MAX_MEM_SLOTS = 36;

const VERSION_REPLY = 0x5;
const NEED_REPLY = 0x8;
/** VIRTIO_F_VERSION_1, VHOST_USER_F_PROTOCOL_FEATURES, VIRTIO_BLK_F_MQ and the like in the low bits. */
const FEATURES = (1n << 32n) | (1n << 30n);
/** MQ, CONFIG, and of reply-ack none. */
const PROTOCOL_FEATURES = (1n << 0n) | (1n << 9n);
const QUEUES = 8n;

function answer(request, payload) {
  const word = (value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  };
  switch (request) {
    case GET_FEATURES:
      return word(FEATURES);
    case GET_PROTOCOL_FEATURES:
      return word(PROTOCOL_FEATURES);
    case GET_QUEUE_NUM:
      return word(QUEUES);
    case GET_MAX_MEM_SLOTS:
      return word(8n);
    case GET_VRING_BASE:
    case GET_CONFIG:
    case GET_INFLIGHT_FD:
      return payload;
    default:
      return null;
  }
}

/** Serves a socket. @returns what ends it */
export function serveVhostUser(path) {
  const sockets = new Set();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    let rest = Buffer.alloc(0);
    socket.on("data", (data) => {
      rest = Buffer.concat([rest, data]);
      while (rest.length >= 12 && rest.length >= 12 + rest.readUInt32LE(8)) {
        const size = rest.readUInt32LE(8);
        const request = rest.readUInt32LE(0);
        const flags = rest.readUInt32LE(4);
        const payload = answer(request, rest.subarray(12, 12 + size)) ?? ((flags & NEED_REPLY) === 0 ? null : Buffer.alloc(8));
        rest = Buffer.from(rest.subarray(12 + size));
        if (payload !== null) {
          const header = Buffer.alloc(12);
          header.writeUInt32LE(request, 0);
          header.writeUInt32LE(VERSION_REPLY, 4);
          header.writeUInt32LE(payload.length, 8);
          socket.write(Buffer.concat([header, payload]));
        }
      }
    });
  });
  server.listen(path);
  return () => {
    server.close();
    sockets.forEach((socket) => socket.destroy());
  };
}
