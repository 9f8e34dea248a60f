// Change events. Made from the code by `make pages`.
import type { Entities } from "./entities";

/** What happened to an entity. */
export type ChangeKind = "created" | "updated" | "deleted" | "restored" | "erased" | "snapshot";

/** A change of an entity of kind `K`, as a CloudEvent: the `detail` of an event of the bus. */
export interface ChangeEvent<K extends keyof Entities = keyof Entities> {
  /** The change. */
  data: {
    /** The canonical fields that changed, sorted by name. */
    changed: Array<{
      /** The value before the change; absent with `ids`, where there was none, where it is large, and where the content was dropped. */
      before?: unknown;
      /** The name of the field. */
      field: string;
    }>;
    /** `true` when the entity is deleted at its source. */
    deleted: boolean;
    /** The part of the change that the event carries. `ids` stands here, too, where the whole would be larger than an event. */
    detail: "ids" | "full";
    /** The canonical entity, as the table shows it; absent with `ids`, and where nothing is left of it. */
    entity?: Entities[K];
    /** The origin of the change, such as a webhook or a poll; absent when the item was removed, and for items that an older release wrote. */
    origin?: "webhook" | "poll" | "full-sync" | "backfill" | "replay" | "repair" | "policy" | "redaction";
    /** The trace id of the delivery that brought the change; absent when the item was removed, and for items that an older release wrote. */
    trace?: string;
  };
  /** The media type of `data`: `application/json`. */
  datacontenttype: string;
  /** The id of the JSON Schema of the entity in `data`. */
  dataschema: string;
  /** The id of the change: the same on every retry. */
  id: string;
  /** The position among the changes of the subject, as text of fixed width: a greater one is a later change. */
  sequence: string;
  /** The connection: `/woocommerce/shop.example.com`. */
  source: string;
  /** The version of CloudEvents: `1.0`. */
  specversion: string;
  /** The entity: `order/13`. */
  subject: string;
  /** The time of the change in the table, RFC 3339 in UTC. */
  time: string;
  /** The kind of entity and the kind of change: `order.created`. */
  type: `${K}.${ChangeKind}`;
}
