/** An IOMMU's registers, decoded when they are opened. */
import { Fields, Hex, Name, Problem, Section, useAnswer } from "./parts.js";
import type { ViewProps } from "./view.js";

export function Registers({ client, moment, iommu }: Pick<ViewProps, "client" | "moment"> & { readonly iommu: string }) {
  const { answer, error } = useAnswer(client, "x-viommu-registers", { iommu }, moment);
  return (
    <section>
      <h3>Registers</h3>
      {error !== null && <Problem>{error}</Problem>}
      {answer?.unknown && <p class="quiet"><Name>{answer.unknown}</Name></p>}
      <div class="map-registers">
        {(answer?.registers ?? []).map((register) => (
          <details key={register.name} open={false}>
            <summary><span class="map-register">{register.name}</span> <Hex>{register.value}</Hex></summary>
            <p class="quiet">offset <code>0x{register.offset.toString(16)}</code>, {register.bits} bits <Section>{register.section}</Section></p>
            <Fields fields={register.fields} label={register.name} />
          </details>
        ))}
      </div>
    </section>
  );
}
