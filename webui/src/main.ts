import './style.css';
import { Api } from './api';
import { App } from './app';
import { Store } from './store';

await new App(new Api(), await Store.open()).start();
