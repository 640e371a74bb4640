/** Models that people often choose, by their names on the hub: `models/hub_models.json`, which says what is known of them. */
import list from "../../../../models/hub_models.json";

export interface HubModelSuggestion {
  /** `owner/name` */
  name: string;
  title: string;
  /** Numbers that were trained, as the name says it: rounded. */
  parameters: number;
  licence: string;
  /** Why one would choose it, in a few words. */
  note: string;
}

export const hubModels: readonly HubModelSuggestion[] = list.models;
