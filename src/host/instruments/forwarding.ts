/**
 * A host in front of another one: every call goes through. What watches, fails or traces calls stands on this.
 * `around` sees each call by the kernel's name for it; a method that needs more of a call overrides it.
 */
import type {
  CopyRequest,
  DeviceInfo,
  DirtyBitmapRequest,
  EventStream,
  FaultStream,
  FeatureRequest,
  Host,
  HostEvent,
  HostFacts,
  HostFunction,
  HostInspector,
  HotResetDevice,
  HwInfo,
  HwInfoRequest,
  HwptAllocRequest,
  InvalidateRequest,
  InvalidateResult,
  Iommufd,
  IovaRange,
  IrqInfo,
  MapRequest,
  RegionArea,
  RegionFile,
  RegionInfo,
  RegionMapping,
  VdeviceRequest,
  VeventqRequest,
  VfioDevice,
  ViommuRequest,
  VtdFaultSource,
} from "../../iommufd/index.js";
import type { RamBlock } from "../../memory/index.js";

/** Makes a call, or does without; `operation` is the kernel's name for it, such as "HWPT_ALLOC". */
export type Around = <T>(operation: string, call: () => T) => T;

const through: Around = (_operation, call) => call();

/** Calls that make an object of an iommufd. */
export const CREATING: ReadonlySet<string> = new Set(["IOAS_ALLOC", "HWPT_ALLOC", "FAULT_QUEUE_ALLOC", "VIOMMU_ALLOC", "VDEVICE_ALLOC", "VEVENTQ_ALLOC", "VFIO_BIND_IOMMUFD"]);

/** Calls that are no ioctls of iommufd and VFIO that change something: files, memory, regions and what tells of them. */
export const FILE_CALLS: ReadonlySet<string> = new Set([
  "open /dev/iommu",
  "open /dev/vfio",
  "mmap",
  "eventfd",
  "read",
  "write",
  "read vEVENTQ",
  "read VT-d faults",
  "read fault queue",
  "write fault queue",
  "VFIO_GET_INFO",
  "VFIO_GET_REGION_INFO",
  "VFIO_GET_IRQ_INFO",
]);

export class ForwardingHost implements Host {
  constructor(
    protected readonly inner: Host,
    protected readonly around: Around = through,
  ) {}

  get description(): string {
    return this.inner.description;
  }

  get pageBytes(): number | undefined {
    return this.inner.pageBytes;
  }

  get hasDescriptors(): boolean | undefined {
    return this.inner.hasDescriptors;
  }

  allocateMemory(name: string, bytes: number): RamBlock {
    return this.around("mmap", () => this.inner.allocateMemory(name, bytes));
  }

  freeMemory(block: RamBlock): void {
    this.inner.freeMemory(block);
  }

  makeEvent(): HostEvent {
    return this.around("eventfd", () => this.inner.makeEvent());
  }

  openIommufd(given?: { readonly fd: number }): Iommufd {
    return this.wrapIommufd(this.around("open /dev/iommu", () => this.inner.openIommufd(given)));
  }

  openDevice(device: string | { readonly fd: number }): VfioDevice {
    return this.wrapDevice(this.around("open /dev/vfio", () => this.inner.openDevice(device)));
  }

  functions(): HostFunction[] {
    return this.inner.functions();
  }

  get vtdFaults(): VtdFaultSource | undefined {
    const source = this.inner.vtdFaults;
    return source === undefined ? undefined : { open: (iommufd, devId) => new ForwardingStream(this.around("VTD_FAULTS", () => source.open(iommufd, devId)), this.around, "read VT-d faults") };
  }

  get facts(): HostFacts | undefined {
    return this.inner.facts;
  }

  get inspector(): HostInspector | undefined {
    return this.inner.inspector;
  }

  close(): void {
    this.inner.close();
  }

  protected wrapIommufd(iommufd: Iommufd): Iommufd {
    return new ForwardingIommufd(iommufd, this.around);
  }

  protected wrapDevice(device: VfioDevice): VfioDevice {
    return new ForwardingDevice(device, this.around);
  }
}

export class ForwardingIommufd implements Iommufd {
  constructor(
    protected readonly inner: Iommufd,
    protected readonly around: Around = through,
  ) {}

  get fd(): number {
    return this.inner.fd;
  }

  destroy(id: number): void {
    this.around("DESTROY", () => this.inner.destroy(id));
  }

  ioasAlloc(flags?: number): number {
    return this.around("IOAS_ALLOC", () => this.inner.ioasAlloc(flags));
  }

  ioasIovaRanges(ioasId: number): { ranges: IovaRange[]; alignment: bigint } {
    return this.around("IOAS_IOVA_RANGES", () => this.inner.ioasIovaRanges(ioasId));
  }

  ioasAllowIovas(ioasId: number, ranges: readonly IovaRange[]): void {
    this.around("IOAS_ALLOW_IOVAS", () => this.inner.ioasAllowIovas(ioasId, ranges));
  }

  ioasMap(request: MapRequest): bigint {
    return this.around("address" in request.source ? "IOAS_MAP" : "IOAS_MAP_FILE", () => this.inner.ioasMap(request));
  }

  ioasCopy(request: CopyRequest): bigint {
    return this.around("IOAS_COPY", () => this.inner.ioasCopy(request));
  }

  ioasUnmap(ioasId: number, iova: bigint, length: bigint): bigint {
    return this.around("IOAS_UNMAP", () => this.inner.ioasUnmap(ioasId, iova, length));
  }

  option(optionId: number, operation: "get" | "set", objectId: number, value: bigint): bigint {
    return this.around("OPTION", () => this.inner.option(optionId, operation, objectId, value));
  }

  hwptAlloc(request: HwptAllocRequest): number {
    return this.around("HWPT_ALLOC", () => this.inner.hwptAlloc(request));
  }

  getHwInfo(devId: number, request?: HwInfoRequest): HwInfo {
    return this.around("GET_HW_INFO", () => this.inner.getHwInfo(devId, request));
  }

  hwptSetDirtyTracking(hwptId: number, enable: boolean): void {
    this.around("HWPT_SET_DIRTY_TRACKING", () => this.inner.hwptSetDirtyTracking(hwptId, enable));
  }

  hwptGetDirtyBitmap(request: DirtyBitmapRequest): void {
    this.around("HWPT_GET_DIRTY_BITMAP", () => this.inner.hwptGetDirtyBitmap(request));
  }

  hwptInvalidate(request: InvalidateRequest): InvalidateResult {
    return this.around("HWPT_INVALIDATE", () => this.inner.hwptInvalidate(request));
  }

  faultQueueAlloc(): { id: number; stream: FaultStream } {
    const { id, stream } = this.around("FAULT_QUEUE_ALLOC", () => this.inner.faultQueueAlloc());
    return { id, stream: new ForwardingFaultStream(stream, this.around) };
  }

  viommuAlloc(request: ViommuRequest): number {
    return this.around("VIOMMU_ALLOC", () => this.inner.viommuAlloc(request));
  }

  vdeviceAlloc(request: VdeviceRequest): number {
    return this.around("VDEVICE_ALLOC", () => this.inner.vdeviceAlloc(request));
  }

  veventqAlloc(request: VeventqRequest): { id: number; stream: EventStream } {
    const { id, stream } = this.around("VEVENTQ_ALLOC", () => this.inner.veventqAlloc(request));
    return { id, stream: new ForwardingStream(stream, this.around, "read vEVENTQ") };
  }

  close(): void {
    this.inner.close();
  }
}

class ForwardingStream<Stream extends EventStream> implements EventStream {
  constructor(
    protected readonly inner: Stream,
    protected readonly around: Around,
    private readonly reading: string,
  ) {}

  get fd(): number | null {
    return this.inner.fd;
  }

  read(maxBytes: number): Uint8Array | null {
    return this.around(this.reading, () => this.inner.read(maxBytes));
  }

  onReadable(listener: (() => void) | null): void {
    this.inner.onReadable(listener);
  }

  close(): void {
    this.inner.close();
  }
}

class ForwardingFaultStream extends ForwardingStream<FaultStream> implements FaultStream {
  constructor(inner: FaultStream, around: Around) {
    super(inner, around, "read fault queue");
  }

  write(responses: Uint8Array): number {
    return this.around("write fault queue", () => this.inner.write(responses));
  }
}

export class ForwardingDevice implements VfioDevice {
  constructor(
    protected readonly inner: VfioDevice,
    protected readonly around: Around = through,
  ) {}

  get address(): string {
    return this.inner.address;
  }

  get fd(): number {
    return this.inner.fd;
  }

  bind(iommufd: number, token?: Uint8Array): number {
    return this.around("VFIO_BIND_IOMMUFD", () => this.inner.bind(iommufd, token));
  }

  attach(ptId: number, pasid?: number): void {
    this.around("VFIO_ATTACH_IOMMUFD_PT", () => this.inner.attach(ptId, pasid));
  }

  detach(pasid?: number): void {
    this.around("VFIO_DETACH_IOMMUFD_PT", () => this.inner.detach(pasid));
  }

  info(): DeviceInfo {
    return this.around("VFIO_GET_INFO", () => this.inner.info());
  }

  regionInfo(index: number): RegionInfo {
    return this.around("VFIO_GET_REGION_INFO", () => this.inner.regionInfo(index));
  }

  regionMap(index: number): RegionMapping | null {
    return this.around("mmap", () => this.inner.regionMap(index));
  }

  regionFile(index: number, area: RegionArea): RegionFile {
    return this.around("VFIO_FEATURE", () => this.inner.regionFile(index, area));
  }

  regionRead(index: number, offset: number, out: Uint8Array): void {
    this.around("read", () => this.inner.regionRead(index, offset, out));
  }

  regionWrite(index: number, offset: number, data: Uint8Array): void {
    this.around("write", () => this.inner.regionWrite(index, offset, data));
  }

  irqInfo(index: number): IrqInfo {
    return this.around("VFIO_GET_IRQ_INFO", () => this.inner.irqInfo(index));
  }

  setIrqs(index: number, start: number, events: ReadonlyArray<HostEvent | null>): void {
    this.around("VFIO_SET_IRQS", () => this.inner.setIrqs(index, start, events));
  }

  maskIrqs(index: number, start: number, count: number): void {
    this.around("VFIO_SET_IRQS", () => this.inner.maskIrqs(index, start, count));
  }

  unmaskIrqs(index: number, start: number, count: number): void {
    this.around("VFIO_SET_IRQS", () => this.inner.unmaskIrqs(index, start, count));
  }

  setUnmaskEvent(index: number, event: HostEvent | null): void {
    this.around("VFIO_SET_IRQS", () => this.inner.setUnmaskEvent(index, event));
  }

  reset(): void {
    this.around("VFIO_RESET", () => this.inner.reset());
  }

  hotResetInfo(): HotResetDevice[] {
    return this.around("VFIO_GET_PCI_HOT_RESET_INFO", () => this.inner.hotResetInfo());
  }

  hotReset(): void {
    this.around("VFIO_PCI_HOT_RESET", () => this.inner.hotReset());
  }

  feature(request: FeatureRequest): void {
    this.around("VFIO_FEATURE", () => this.inner.feature(request));
  }

  close(): void {
    this.inner.close();
  }
}
