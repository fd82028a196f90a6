import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseArguments, readArguments } from "../../src/machine/arguments/index.js";
import { recognise } from "../../src/machine/input/index.js";
import { Refusal } from "../../src/support/index.js";

const read = (text: string): { words: string[]; notes: string[] } => {
  const { words, findings } = recognise(text, "in");
  expect(words.map(({ index }) => index)).toEqual(words.map((_, index) => index));
  return { words: words.map((word) => word.text), notes: findings.map((one) => one.words) };
};

const COMMAND = ["/usr/bin/qemu-system-x86_64", "-M", "q35", "-nodefaults", "-device", '{"driver":"edu","id":"ab","romfile":"a b"}'];

describe("a machine as people have it", () => {
  it("is a log of libvirt, with its first line, its environment and what stands behind", () => {
    const text = `2026-07-22 10:02:46.135+0000: starting up libvirt version: 11.9.0, package: 1.el10 (x), qemu version: 10.1.0qemu-kvm-10.1.0-5.el10, kernel: 6.12.0, hostname: node-1
LC_ALL=C \\
PATH=/usr/bin \\
/usr/bin/qemu-system-x86_64 \\
-M q35 \\
-nodefaults \\
-device '{"driver":"edu","id":"ab","romfile":"a b"}'
char device redirected to /dev/pts/0 (label charserial0)
2026-07-22T10:05:00.000000Z qemu-system-x86_64: terminating on signal 15 from pid 1234 (/usr/sbin/libvirtd)
2026-07-22 10:12:46.135+0000: shutting down, reason=destroyed
`;
    expect(read(text)).toEqual({
      words: ["LC_ALL=C", "PATH=/usr/bin", ...COMMAND],
      notes: [
        "in:1: the first line of libvirt's log is skipped (libvirt 11.9.0, QEMU 10.1.0)",
        "in:8: a message of QEMU is skipped",
        "in:9: a message is skipped",
        "in:10: libvirt's log is skipped (libvirt 11.9.0, QEMU 10.1.0)",
      ],
    });
    // Places are those of the log.
    expect(recognise(text, "in").words.at(-1)).toMatchObject({ line: 7, column: 9, index: 7 });
    expect(parseArguments(recognise(text, "in")).notes.slice(0, 2)).toEqual(["in:1: the first line of libvirt's log is skipped (libvirt 11.9.0, QEMU 10.1.0)", "in:8: a message of QEMU is skipped"]);
  });

  it("is the last of a log's commands", () => {
    const { words, notes } = read("2026-01-01 00:00:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.0, hostname: a\nLC_ALL=C \\\n/usr/bin/qemu-kvm \\\n-M pc\n2026-01-02 00:00:00.000+0000: shutting down, reason=crashed\n2026-01-03 00:00:00.000+0000: starting up libvirt version: 10.0.0, qemu version: 8.2.2, hostname: a\nLC_ALL=C \\\n/usr/bin/qemu-kvm \\\n-M q35\n");
    expect(words).toEqual(["LC_ALL=C", "/usr/bin/qemu-kvm", "-M", "q35"]);
    expect(notes[0]).toBe("in:7: the last of 2 commands is taken");
    expect(notes).toContain("in:1: the first line of libvirt's log is skipped (libvirt 10.0.0, QEMU 8.2.2)");
    expect(notes).toContain("lines 2 to 4".replace(/^/, "in:2: ") + ", what stands before the command, are skipped");
  });

  it("is what ps prints, where no quotes are left around JSON", () => {
    const text = `UID          PID    PPID  C STIME TTY          TIME CMD
qemu        2045       1 12 Jul20 ?        03:12:45 /usr/bin/qemu-system-x86_64 -M q35 -nodefaults -device {"driver":"edu","id":"ab","romfile":"a b"}
root        9999    9990  0 10:00 pts/0    00:00:00 grep --color=auto qemu
`;
    expect(read(text)).toEqual({ words: COMMAND, notes: ["in:1: the heading of ps is skipped", "in:2: what stands before the command is skipped", "in:3: another process is skipped"] });
    expect(recognise(text, "in").words[0]).toMatchObject({ line: 2, column: 53 });
    expect(read("2045 /usr/bin/kvm -id 100 -machine type=q35+pve0").words).toEqual(["/usr/bin/kvm", "-id", "100", "-machine", "type=q35+pve0"]);
    expect(read("           └─4711 /usr/bin/qemu-kvm -M q35").words).toEqual(["/usr/bin/qemu-kvm", "-M", "q35"]);
  });

  it("is JSON that a shell has taken the quotes from", () => {
    const { words, notes } = read("qemu-kvm -M q35 -device {driver:vfio-pci,host:0000:01:00.0,id:x,multifunction:true,addr:0x2} -blockdev {driver:raw,node-name:n,cache:{direct:true,no-flush:false},file:a,b}");
    expect(words[4]).toBe("driver=vfio-pci,host=0000:01:00.0,id=x,multifunction=true,addr=0x2");
    expect(words[6]).toBe("driver=raw,node-name=n,cache.direct=true,cache.no-flush=false,file=a,,b");
    expect(notes).toEqual(["in:1: JSON that has lost its quotes is read as name=value", "in:1: JSON that has lost its quotes is read as name=value"]);
    expect(parseArguments(recognise("-M q35 -nodefaults -device {driver:edu,id:x,addr:0x2}", "in")).devices[0]).toMatchObject({ id: "x", devfn: 16 });
  });

  it("is quoted in a mail, and broken by it", () => {
    const { words, notes } = read(`On Tuesday Jane wrote:
> Hello, this does not start:
>
> /usr/bin/qemu-system-x86_64 -M q35 -nodefaults -object iommufd,id=iommufd0 -dev
> ice pcie-root-port,id=rp1,chassis=1 -device vfio-pci,host=0000:17:00.0,bus=rp1,iom
> mufd=iommufd0 \\
> -device '{"driver":"edu","id":"a
> b"}'
>
> Thanks
> --${" "}
> Jane
`);
    expect(words).toEqual([...COMMAND.slice(0, 4), "-object", "iommufd,id=iommufd0", "-device", "pcie-root-port,id=rp1,chassis=1", "-device", "vfio-pci,host=0000:17:00.0,bus=rp1,iommufd=iommufd0", "-device", '{"driver":"edu","id":"ab"}']);
    expect(notes).toEqual([
      "in:2: a mail's marks of quoting are left out",
      "in:1: lines 1 to 2, what stands before the command, are skipped",
      "in:10: lines 10 to 12, what stands behind the command, are skipped",
      "in:4: a word that is broken over lines 4 and 5 is taken as one",
      "in:5: a word that is broken over lines 5 and 6 is taken as one",
    ]);
    // Short lines are nobody's edge.
    expect(readArguments(recognise("-M q35\nfoo", "in")).findings[0]).toMatchObject({ level: "error", words: "'foo' is not an option", place: { line: 2, column: 1 } });
  });

  it("has blanks behind backslashes", () => {
    expect(read("qemu-kvm \\  \n-M \\\t\nq35\\ \n-S \\")).toMatchObject({ words: ["qemu-kvm", "-M", "q35", "-S"], notes: ["in:1: a backslash with blanks behind it is taken for one at the line's end"] });
  });

  it("is the words of /proc/PID/cmdline, or a list of strings", () => {
    expect(read(`${COMMAND.join("\0")}\0`).words).toEqual(COMMAND);
    expect(read(JSON.stringify(COMMAND)).words).toEqual(COMMAND);
  });

  it("stands behind a prompt", () => {
    for (const prompt of ["$ ", "# ", "root@pve:~# ", "[jane@host ~]$ ", "+ ", "  $ "]) {
      expect(read(`${prompt}${COMMAND.slice(0, 3).join(" ")} \\\n  -nodefaults -device '{"driver":"edu","id":"ab","romfile":"a b"}'\n`).words.filter((word) => !/^[$+]$/.test(word)), prompt).toEqual(COMMAND);
    }
    // A comment of a file of arguments stays one.
    expect(read("# qemu-system-x86_64 -M pc\n-M q35").words).toEqual(["-M", "q35"]);
    expect(read("# run it with: qemu-system-x86_64\nqemu-system-x86_64 -M q35").words).toEqual(["qemu-system-x86_64", "-M", "q35"]);
  });
});

describe("what starts QEMU", () => {
  it.each([
    "sudo", "sudo -E -u qemu", "taskset -c 0-3", "numactl --membind=0 --cpunodebind 0", "env -i A=b", "prlimit --memlock=unlimited", "nice -n 5 ionice -c 2", "chrt -f 1",
    "setpriv --reuid=107 --", "systemd-run --user -p MemoryMax=8G", "/usr/bin/sudo -g kvm", "strace -f -o /tmp/x",
  ])("%s is left out and told", (wrapper) => {
    const { arguments: args, findings } = readArguments(`${wrapper} /usr/bin/qemu-system-aarch64 -M virt -nodefaults`.split(" "));
    expect(args?.machine.type).toBe("virt-11.1");
    expect(findings.map(({ words }) => words)).toEqual([`${wrapper}: what starts QEMU has no effect here`]);
  });

  it.each(["kvm", "/usr/bin/kvm", "/usr/libexec/qemu-kvm", "qemu", "kvm-spice", "qemu-system-x86_64", "./build/qemu-system-aarch64", "qemu-system-x86_64-spice", "QEMU_AUDIO_DRV=none /usr/bin/kvm"])("%s is a program", (program) => {
    expect(readArguments(`${program} -M q35 -nodefaults`.split(" ")).findings).toEqual([]);
  });
});

describe("any text", () => {
  const PIECES = ["qemu-kvm", "/usr/bin/kvm ", "-M q35", " -device ", '{"driver":"edu"', "}", "{a:b", "'", '"', "\\", "\\ \n", "\n", "\r\n", "> ", "# ", "$ ", "sudo ", "2026-01-01 00:00:00: ", "-- \n", "x".repeat(70), " ", "\0", "[", "A=b "];
  it("is read, or refused, and its words are in their order", () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.constantFrom(...PIECES), fc.string({ maxLength: 6 })), { maxLength: 24 }), (pieces) => {
        try {
          const { words, findings } = recognise(pieces.join(""), "in");
          expect(words.map(({ index }) => index)).toEqual(words.map((_, index) => index));
          const places = words.map(({ line, column }) => line! * 1e6 + column!);
          expect(places).toEqual([...places].sort((a, b) => a - b));
          readArguments({ words, findings });
        } catch (error) {
          expect(error).toBeInstanceOf(Refusal);
        }
      }),
      { numRuns: 400, seed: 11 },
    );
  });
});
