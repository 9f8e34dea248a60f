// Change events. Made from the code by `make pages`.
import type { Entities } from "./entities";

/** What happened to an entity. */
export type ChangeKind = "created" | "updated" | "deleted" | "restored" | "erased";

/** A change of an entity of kind `K`, as a CloudEvent: the `detail` of an event of the bus. */
export interface ChangeEvent<K extends keyof Entities = keyof Entities> {
  specversion: "1.0";
  /** The id of the change: the same on every retry. */
  id: string;
  /** The connection: `/woocommerce/shop.example.com`. */
  source: string;
  type: `${K}.${ChangeKind}`;
  /** The entity: `order/13`. */
  subject: string;
  /** RFC 3339 in UTC. */
  time: string;
  /** Keep the last of each `source` and `subject`, and drop an event whose `sequence` is not greater, compared as text. */
  sequence: string;
  datacontenttype: "application/json";
  /** The id of the JSON Schema of `data.entity`. */
  dataschema: string;
  data: {
    detail: "ids" | "full";
    /** `true` when the entity is deleted at its source. */
    deleted: boolean;
    /** Absent with `ids`, and where nothing is left of it. */
    entity?: Entities[K];
    /** The canonical fields that changed, with their previous values where small. */
    changed: Array<{ field: string; before?: unknown }>;
  };
}
