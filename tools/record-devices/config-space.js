/** Configuration space of a function of a real QEMU: what it is after reset, and which bits can be written. */

const CAP_PM = 0x01;
const CAP_EXPRESS = 0x10;
const EXT_CAP_SRIOV = 0x10;
const FUNCTION_LEVEL_RESET = 0x80;

/** Offset of each capability of the conventional list and of the extended one: [id, offset, extended]. */
function* capabilities(bytes) {
  const seen = new Set();
  for (let at = (bytes[6] & 0x10) === 0 ? 0 : bytes[0x34] & 0xfc; at >= 0x40 && !seen.has(at); at = bytes[at + 1] & 0xfc) {
    seen.add(at);
    yield [bytes[at], at, false];
  }
  for (let at = 0x100; at + 4 <= bytes.length && at >= 0x100 && !seen.has(at) && bytes.readUInt32LE(at) !== 0; at = bytes.readUInt32LE(at) >>> 20) {
    seen.add(at);
    yield [bytes.readUInt16LE(at), at, true];
  }
}

/**
 * Reads the space and writes all ones and zeros to find what can be written. Bits that start something (a reset of
 * the function, virtual functions) are left alone; power states come last, for they may reset the function.
 * @returns two Buffers of 256 or 4096 bytes
 */
export async function record(qemu, base) {
  const whole = await qemu.read(base, 4096);
  // All ones: the function, or its bus, has conventional configuration space.
  const extended = whole.readUInt32LE(0x100) !== 0xffffffff;
  const image = extended ? whole : whole.subarray(0, 256);
  const spare = Buffer.alloc(image.length);
  let power = 0;
  for (const [id, at, isExtended] of capabilities(image)) {
    if (isExtended && id === EXT_CAP_SRIOV) {
      spare.fill(0xff, at + 8, at + 10);
    } else if (!isExtended && id === CAP_EXPRESS) {
      spare[at + 9] = FUNCTION_LEVEL_RESET;
    } else if (!isExtended && id === CAP_PM) {
      power = at + 4;
      spare.fill(0xff, power, power + 2);
    }
  }
  const mask = Buffer.alloc(image.length);
  const probe = async (from, to, spared = spare) => {
    const part = image.subarray(from, to);
    const kept = spared.subarray(from, to);
    await qemu.write(base + from, part.map((byte, i) => (byte & kept[i]) | (0xff & ~kept[i])));
    const ones = await qemu.read(base + from, to - from);
    await qemu.write(base + from, part.map((byte, i) => byte & kept[i]));
    const zeros = await qemu.read(base + from, to - from);
    ones.forEach((byte, i) => (mask[from + i] = (byte ^ zeros[i]) & ~kept[i]));
    await qemu.write(base + from, part);
  };
  await probe(0x08, 0x40);
  await probe(0x40, 0x100);
  if (extended) {
    await probe(0x100, 0x1000);
  }
  await probe(0x04, 0x08);
  if (power !== 0) {
    await probe(power, power + 2, Buffer.alloc(image.length));
  }
  return { image, mask };
}

/** Bytes as hexadecimal; from eight equal ones on `byte*count`, with a dot between such pieces. */
function hexadecimal(bytes) {
  const pieces = [];
  let plain = "";
  for (let at = 0; at < bytes.length; ) {
    let end = at + 1;
    while (end < bytes.length && bytes[end] === bytes[at]) {
      end++;
    }
    const byte = bytes[at].toString(16).padStart(2, "0");
    if (end - at < 8) {
      plain += byte.repeat(end - at);
    } else {
      pieces.push(...(plain === "" ? [] : [plain]), `${byte}*${end - at}`);
      plain = "";
    }
    at = end;
  }
  return [...pieces, ...(plain === "" ? [] : [plain])].join(".");
}

/** Bytes as text: runs that are not zero, each `offset:hex`, apart where four or more zeros are between. */
export function runs(bytes) {
  const out = [];
  for (let at = 0; at < bytes.length; ) {
    if (bytes[at] === 0) {
      at++;
      continue;
    }
    let end = at + 1;
    for (let zeros = 0, next = end; next < bytes.length && zeros < 4; next++) {
      zeros = bytes[next] === 0 ? zeros + 1 : 0;
      end = bytes[next] === 0 ? end : next + 1;
    }
    out.push(`${at.toString(16)}:${hexadecimal(bytes.subarray(at, end))}`);
    at = end;
  }
  return out.join(" ");
}

/** What of `bytes` is not as in `of`, dword by dword. */
export function changes(bytes, of) {
  const out = [];
  for (let at = 0; at < bytes.length; at += 4) {
    if (!bytes.subarray(at, at + 4).equals(of.subarray(at, at + 4))) {
      const last = out.at(-1);
      if (last !== undefined && last.end === at) {
        last.end = at + 4;
      } else {
        out.push({ at, end: at + 4 });
      }
    }
  }
  return out.map(({ at, end }) => `${at.toString(16)}:${hexadecimal(bytes.subarray(at, end))}`).join(" ");
}
