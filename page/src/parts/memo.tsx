import { Component, type ComponentType, type FunctionComponent } from "preact";

/** A component that is drawn anew only when one of its props is another thing than before. */
export function memo<Props extends object>(Draw: FunctionComponent<Props>): ComponentType<Props> {
  return class extends Component<Props> {
    override shouldComponentUpdate(next: Props): boolean {
      const names = Object.keys(next) as (keyof Props)[];
      return names.some((name) => next[name] !== this.props[name as never]);
    }
    override render() {
      return <Draw {...(this.props as Props)} />;
    }
  };
}
