/**
 * What the kernel signals a process by: eventfds, and the read ends of queues. Listeners are always called
 * later, from a turn of their own and never out of the call that caused it, as a poll loop does it; several
 * signals until then are one call.
 */

/** An eventfd (eventfd(2)). */
export interface HostEvent {
  /** The descriptor, such as KVM_IRQFD takes it; null: the event lives in this process alone. */
  readonly fd: number | null;
  /** Adds one to its count; `VfioDevice.setIrqs` lets the kernel do it. */
  signal(): void;
  /** Called when it has been signalled, and again for what comes while it runs; one listener, null: none. What comes meanwhile is kept for the next one. */
  onSignal(listener: (() => void) | null): void;
  /** Closes the descriptor. Safe to call twice; interrupts that still have it go nowhere. */
  close(): void;
}

/** The readable end of a vEVENTQ or fault queue. */
export interface EventStream {
  /** The descriptor; null: the host has none for it. */
  readonly fd: number | null;
  /**
   * Reads whole records, as many as there are and fit in `maxBytes`; null when there is none, where Linux's
   * read gives 0 bytes at once, O_NONBLOCK or not. A vEVENTQ record is struct iommufd_vevent_header and the
   * event's bytes, or a header alone with VEVENTQ_FLAG_LOST_EVENTS. Fewer records than are queued may come
   * for each read: who wants all reads until null.
   *
   * @throws HostError EINVAL the next record does not fit, or not a vEVENTQ's header; ESPIPE of a fault queue not a
   *   multiple of HWPT_PGFAULT_BYTES; EBADF closed
   */
  read(maxBytes: number): Uint8Array | null;
  /** Called when records can be read; one listener. It may find nothing: another reader was faster. */
  onReadable(listener: (() => void) | null): void;
  /** Closes the descriptor; the object itself is destroyed by Iommufd.destroy. */
  close(): void;
}

/** The descriptor of a fault queue: page requests are read from it, responses are written to it. */
export interface FaultStream extends EventStream {
  /**
   * Answers page requests: whole struct iommu_hwpt_page_response (u32 cookie, u32 code). Returns the bytes
   * that were taken, which are less than all where a later response is refused.
   *
   * @throws HostError ESPIPE not whole responses, EINVAL no such cookie or code, EBADF closed
   */
  write(responses: Uint8Array): number;
}
