import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { parseArguments } from "../../src/machine/arguments/index.js";
import { build } from "./build.js";
import { refusalOf, words } from "./refused.js";

const folder = mkdtempSync(join(tmpdir(), "viommu-drive-"));
afterAll(() => rmSync(folder, { recursive: true }));
const disk = join(folder, "disk.raw");
writeFileSync(disk, new Uint8Array(1 << 20));
const qcow = join(folder, "disk.qcow2");
writeFileSync(qcow, Uint8Array.of(0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3, ...new Uint8Array(504)));

const VIRT = "-M virt -nodefaults -m 256";
const NVME = "-device nvme,serial=1,drive=d";
const resolve = (line: string, id = "d") => parseArguments(words(`${VIRT} ${line}`)).drives.resolve(id);

describe("-drive and -blockdev", () => {
  it.each([
    [`-drive file=${disk},format=raw,if=none,id=d`, { kind: "file", path: disk, readOnly: false }],
    [`-drive file=${disk},if=none,id=d,format=raw,readonly=on`, { kind: "file", readOnly: true }],
    [`-drive if=none,id=d,driver=raw,file.driver=file,file.filename=${disk},read-only=on`, { kind: "file", path: disk, readOnly: true }],
    [`-drive if=none,id=d,driver=null-co,size=64M`, { kind: "null", size: 64 << 20 }],
    [`-drive if=none,id=d,driver=x-memory,size=64M`, { kind: "memory", size: 64 << 20 }],
    [`-drive file=${disk},format=raw,if=none,id=d,cache=unsafe`, { ignoreFlush: true, writeThrough: false }],
    [`-drive file=${disk},format=raw,if=none,id=d,cache=writethrough,aio=io_uring,discard=unmap,werror=report`, { ignoreFlush: false, writeThrough: true }],
    [`-blockdev driver=file,node-name=d,filename=${disk}`, { kind: "file", path: disk }],
    [`-blockdev driver=raw,node-name=d,file.driver=file,file.filename=${disk}`, { kind: "file", path: disk, id: "d" }],
    [`-blockdev '{"driver":"raw","node-name":"d","read-only":true,"file":{"driver":"file","filename":"${disk}"}}'`, { kind: "file", path: disk, readOnly: true }],
    [`-blockdev driver=file,node-name=f,filename=${disk},read-only=on -blockdev driver=raw,node-name=d,file=f,cache.no-flush=on`, { kind: "file", path: disk, id: "d", readOnly: true, ignoreFlush: true }],
    [`-blockdev driver=null-co,node-name=d`, { kind: "null", size: 2 ** 30 }],
  ])("%s", (line, expected) => {
    expect(resolve(line)).toMatchObject(expected);
  });

  it("leave a line where nothing uses them, and none where an nvme does", () => {
    const notes = (line: string) => parseArguments(words(`${VIRT} ${line}`)).notes.filter((note) => note.includes("backend"));
    expect(notes(`-drive file=${disk},format=raw,if=none,id=d`)).toHaveLength(1);
    expect(notes(`-drive file=${disk},format=raw,if=none,id=d ${NVME}`)).toEqual([]);
    expect(notes(`-blockdev driver=file,node-name=f,filename=a -blockdev driver=raw,node-name=d,file=f -blockdev driver=file,node-name=g,filename=b ${NVME}`)).toEqual([
      "-blockdev driver=file,node-name=g,filename=b: no backend is opened here",
    ]);
  });

  it.each([
    [NVME, "Property 'nvme.drive' can't find value 'd'"],
    ["-device nvme", "serial property not set"],
    [`-drive file=${disk},format=raw,if=none,id=d ${NVME} ${NVME}`, "Drive 'd' is already in use by another device"],
    [`-drive file=${disk},format=raw,if=none,id=d -drive file=${disk},format=raw,if=none,id=e ${NVME} -device nvme,serial=2,drive=e`, `Failed to get "write" lock\nIs another process using the image [${disk}]?`],
    [`-drive file=${folder}/none,format=raw,if=none,id=d ${NVME}`, `Could not open '${folder}/none': No such file or directory`],
    [`-drive file=a,if=none,id=d -drive file=b,if=none,id=d`, "Duplicate ID 'd' for drive"],
    [`-drive if=none,id=d ${NVME}`, "could not get blockdev size: No medium found"],
    [`-accel kvm -kernel k -drive file=${qcow},format=qcow2,if=none,id=d ${NVME}`, "Unknown driver 'qcow2'"],
    [`-accel kvm -kernel k -drive file=${qcow},if=none,id=d ${NVME}`, "Unknown driver 'qcow2'"],
    [`-drive file=${disk},format=raw,if=none,id=d,foo=1 ${NVME}`, "Block format 'raw' does not support the option 'foo'"],
    [`-drive file=${disk},format=raw,if=none,id=d,cache=foo ${NVME}`, "invalid cache option"],
    [`-drive file=${disk},format=raw,if=none,id=d,snapshot=on ${NVME}`, "snapshot=on is not possible here"],
    [`-snapshot -drive file=${disk},format=raw,if=none,id=d ${NVME}`, "snapshot=on is not possible here"],
    [`-accel kvm -kernel k -drive file=nbd://host/x,format=raw,if=none,id=d ${NVME}`, "Unknown protocol 'nbd'"],
    [`-drive file=${disk},if=scsi`, "machine type does not support if=scsi,bus=0,unit=0"],
    ["-blockdev driver=file,filename=x", "'node-name' must be specified for the root node"],
    ["-blockdev driver=null-co,node-name=d -blockdev driver=null-co,node-name=d", "Duplicate nodes with node-name='d'"],
    [`-blockdev driver=foo,node-name=d ${NVME}`, "Parameter 'driver' does not accept value 'foo'"],
    [`-blockdev driver=file,node-name=d ${NVME}`, "Parameter 'filename' is missing"],
    [`-blockdev driver=raw,node-name=d,file.driver=file ${NVME}`, "Parameter 'file.filename' is missing"],
    [`-blockdev driver=raw,node-name=d ${NVME}`, "Parameter 'file' is missing"],
    [`-blockdev driver=raw,node-name=d,file=f ${NVME}`, "Cannot find device='f' nor node-name='f'"],
    [`-blockdev driver=raw,node-name=d,file=d ${NVME}`, "Cannot find device='d' nor node-name='d'"],
    [`-blockdev driver=null-co,node-name=d,bar=1 ${NVME}`, "Parameter 'bar' is unexpected"],
    ["-device nvme,serial=1,max_ioqpairs=0", "max_ioqpairs must be between 1 and 65535"],
    ["-device nvme,serial=1,msix_qsize=2049", "msix_qsize must be between 1 and 2048"],
    ["-device nvme,serial=1,logical_block_size=100", "Property .logical_block_size doesn't take value 100 (minimum: 512, maximum: 2097152)"],
    ["-device nvme,serial=1,logical_block_size=1000", "Property .logical_block_size doesn't take value '1000', it's not a power of 2"],
    ["-device nvme,serial=1,logical_block_size=4096", "logical_block_size > physical_block_size not supported"],
  ])("%s: refused in QEMU's words", (line, expected) => {
    expect(refusalOf(() => build(`${VIRT} ${line}`)).words).toBe(expected);
  });
});

describe("an nvme's drive", () => {
  it("is given back when the machine ends, and when a device that finds no place is refused", () => {
    const line = `${VIRT} -drive file=${disk},format=raw,if=none,id=d`;
    expect(refusalOf(() => build(`${line} -device nvme,serial=1,drive=d,addr=3 -device edu,addr=3`)).words).toContain("slot 3");
    for (let i = 0; i < 2; i++) {
      const { machine, host } = build(`${line} ${NVME}`);
      machine.shutdown();
      host.close();
    }
    expect(readFileSync(disk)).toHaveLength(1 << 20);
  });

  it.each([
    [`-drive file=/nowhere.qcow2,format=qcow2,if=none,id=d`, "format=qcow2: images are raw here"],
    [`-drive file=${qcow},if=none,id=d`, `'${qcow}' holds a qcow2 image: images are raw here`],
    ["-drive file=rbd:pool/vm,format=raw,if=none,id=d", "rbd: disks are files here"],
    ["-blockdev driver=file,node-name=f,filename=/nowhere -blockdev driver=qcow2,node-name=d,file=f,backing=b,l2-cache-size=1M", "driver=qcow2: images are raw here"],
    ["-blockdev driver=raw,node-name=d,file=n -blockdev driver=nbd,node-name=n,server.type=unix,server.path=/x".replace(/^(.*) (-blockdev driver=nbd.*)$/, "$2 $1"), "driver=nbd: images are raw here"],
  ])("%s: an empty disk is in its place where no kernel could boot from it", (line, why) => {
    const { machine, host, log } = build(`${VIRT} ${line} ${NVME}`);
    const [warning] = log.warnings();
    expect(warning).toContain(`: ${why}; an empty disk of 1 GiB is in its place`);
    machine.shutdown();
    host.close();
    expect(readFileSync(qcow).subarray(0, 4)).toEqual(Buffer.from("QFI\xfb", "latin1"));
  });

  it("of another format than raw is taken as it is, with a warning", () => {
    const { machine, host, log } = build(`${VIRT} -drive file=${qcow},format=raw,if=none,id=d ${NVME}`);
    expect(log.lines.map((one) => one.text).join("\n")).toContain("holds a qcow2 image");
    machine.shutdown();
    host.close();
  });

  it("has its BAR as large as its queues and vectors ask for", () => {
    const { machine, host } = build(`${VIRT} -device nvme,id=a,serial=1 -device nvme,id=b,serial=2,max_ioqpairs=1024,msix_qsize=1025`);
    expect(machine.board.functions.map(({ fn }) => fn.bars[0].size)).toEqual([0x4000, 0x1_0000]);
    machine.shutdown();
    host.close();
  });
});
